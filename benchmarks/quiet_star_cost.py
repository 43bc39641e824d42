"""What thinking costs: time and memory of a training step, and thoughts in parallel against thoughts one by one."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.quiet.model import QuietModel, greedily
from selfcorrect.agents.quiet.streams import read_texts
from selfcorrect.agents.quiet.thinking import Thinking, open_model
from selfcorrect.training.quiet_star.run import open_learner
from selfcorrect.training.quiet_star.settings import LossSettings, QuietSettings, StepSettings, ThoughtSettings
from selfcorrect.training.quiet_star.texts import ChainTexts, padded

_STEPS = 8


def cost_of_arms(
    base: Path, arms: Mapping[str, tuple[ThoughtSettings, LossSettings]], step: StepSettings
) -> dict[str, dict[str, float]]:
    """Of each arm: CPU milliseconds and peak megabytes per token of text, the latter beyond the loaded model's.

    Every arm runs in a fresh process on one thread; CPU time is counted, so that a busy machine disturbs little.
    """
    context = multiprocessing.get_context("spawn")
    found = {}
    for name, (thought, loss) in arms.items():
        with context.Pool(1) as pool:
            found[name] = pool.apply(_cost, (base, thought, loss, step))
        print(name, found[name], flush=True)
    plain = found["plain"]["ms_per_token"]
    for figures in found.values():
        figures["times_plain"] = figures["ms_per_token"] / plain
    return found


def _cost(base: Path, thought: ThoughtSettings, loss: LossSettings, step: StepSettings) -> dict[str, float]:
    torch.set_num_threads(1)
    lm, tokenizer = open_model(base)
    settings = QuietSettings(model=str(base), thought=thought, loss=loss, optimiser=step)
    learner, texts = open_learner(settings, lm, tokenizer), ChainTexts(tokenizer, 0)
    learner.module.train()
    optimiser = torch.optim.AdamW(learner.module.parameters())
    generator = torch.Generator().manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, tokens = [], []
    for number in range(_STEPS):
        ids_BT, mask_BT = padded(texts.training(number, step.texts), torch.device("cpu"))
        began = time.process_time()
        optimiser.zero_grad()
        learner.loss(ids_BT, mask_BT, generator).total.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        seconds.append(time.process_time() - began)
        tokens.append(int(mask_BT.sum()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    each = [1000 * second / count for second, count in zip(seconds, tokens, strict=True)]
    return {"ms_per_token": statistics.median(each[1:]), "mb_per_token": (peak - before) / 1024 / max(tokens)}


@torch.no_grad()
def parallel_against_one_by_one(positions: int = 64, tokens: int = 8, repeats: int = 5) -> dict[str, float]:
    """One text of `positions` tokens, the embedded policy, one greedy thought at each position; CPU milliseconds.

    "one by one" thinks at one position after the other on the cache of the text, which was read once; "each alone"
    reads every prefix anew, as generation from a prompt does.
    """
    torch.set_num_threads(1)
    lm, tokenizer = open_model(embedded_folder())
    model = QuietModel.wrap(lm, tokenizer, Thinking(tokens=tokens)).eval()
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(3, 200, (1, positions), generator=generator)
    mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)

    def parallel() -> None:
        reading = read_texts(model.lm, ids_BT, mask_BT)
        model.think(reading, torch.arange(positions)[None], greedily)

    def one_by_one() -> None:
        reading = read_texts(model.lm, ids_BT, mask_BT)
        for position in range(positions):
            model.think(reading, torch.tensor([[position]]), greedily)
            reading.cache.crop(-model.thinking.overhead)

    def each_alone() -> None:
        for position in range(positions):
            reading = read_texts(model.lm, ids_BT[:, : position + 1], mask_BT[:, : position + 1])
            model.think(reading, torch.tensor([[position]]), greedily)

    times: dict[str, list[float]] = {"parallel": [], "one_by_one": [], "each_alone": []}
    ways: dict[str, Callable[[], Any]] = {"parallel": parallel, "one_by_one": one_by_one, "each_alone": each_alone}
    for _ in range(repeats):
        for name, way in ways.items():  # alternating, so that a busy machine slows all alike
            began = time.process_time()
            way()
            times[name].append(1000 * (time.process_time() - began))
    found = {f"{name}_ms": statistics.median(values) for name, values in times.items()}
    found["one_by_one_over_parallel"] = found["one_by_one_ms"] / found["parallel_ms"]
    found["each_alone_over_parallel"] = found["each_alone_ms"] / found["parallel_ms"]
    print(found, flush=True)
    return found


@torch.no_grad()
def growth(tokens: int = 8, repeats: int = 5) -> dict[int, float]:
    """CPU milliseconds of thinking once at every position of texts of several lengths: linear, or not?"""
    torch.set_num_threads(1)
    lm, tokenizer = open_model(embedded_folder())
    model = QuietModel.wrap(lm, tokenizer, Thinking(tokens=tokens)).eval()
    found = {}
    for positions in (32, 64, 128, 240):
        ids_BT = torch.randint(3, 200, (1, positions), generator=torch.Generator().manual_seed(0))
        times = []
        for _ in range(repeats):
            began = time.process_time()
            reading = read_texts(model.lm, ids_BT, torch.ones_like(ids_BT, dtype=torch.bool))
            model.think(reading, torch.arange(positions)[None], greedily)
            times.append(1000 * (time.process_time() - began))
        found[positions] = statistics.median(times)
    print(found, flush=True)
    return found
