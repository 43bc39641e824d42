"""A job of `gpu.py`, or several, in a process of its own: imports, waits for a line, and measures. Not for people."""

import argparse
import asyncio
import faulthandler
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import torch
from gpu_bench import SAMPLES_A_PROBLEM, SIZES, Bench, BusyShare, Memory, Rows, sampled_tokens, synchronised
from transformers import TrainerCallback

from selfcorrect.agents.episodes import run_blocking
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.pretrained import decoding_attention
from selfcorrect.agents.policies.transformers import DecodingName, TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import EpisodeState
from selfcorrect.rewards.checker import Status, Verdict, judged
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer


def captures(policy: TransformersPolicy) -> dict[str, Any]:
    """What is to be known of the policy's CUDA graphs and slots."""
    batch = policy._ongoing.decoding
    if batch is None:
        return {"static": "not decoded so"}
    graphs = batch.captured
    told = {"slots_gib": batch.slot_bytes / 2**30}
    return told if graphs is None else told | {"captures": graphs.captures, "why_not": graphs.why_not}


def play_static(bench: Bench, rows: Rows, profile: Path | None) -> None:
    """The graph by captured steps; the first time it captures them, and the second time those of slots that grew."""
    policy = bench.policy("static")
    for again in ("first", "second"):
        rows.timed(f"graph, static, {again} time", lambda: sampled_tokens(bench.play(policy)))
    rows.timed("graph, static", lambda: sampled_tokens(bench.play(policy)), **captures(policy))
    rows.tried("steps alone", lambda: time_steps(bench, policy, rows))
    if profile is not None:
        rows.tried("profile", lambda: profile_play(bench, policy, profile))


@torch.no_grad()
def time_steps(bench: Bench, policy: TransformersPolicy, rows: Rows, count: int = 16) -> None:
    """Steps of all rows, replayed and called: what is left of a play is reading prompts and Python."""
    batch = policy._ongoing.decoding
    assert batch is not None
    with policy._ongoing._generating():
        for columns in sorted({min(columns, batch._store.columns) for columns in (64, 192)}):
            shape = batch._step.shape(bench.size.episodes, columns, samples=True, cuts=False)
            for what, run in (("replayed", batch._step.run), ("called", batch._step._eagerly)):
                taken = []
                for _ in range(count):
                    batch._slots.at_1.zero_()
                    synchronised(bench.device)
                    start = time.perf_counter()
                    run(shape)
                    synchronised(bench.device)
                    taken.append(time.perf_counter() - start)
                rows.add(f"a step {what}, {shape.rows} x {shape.columns}", sorted(taken)[count // 2])


def profile_play(bench: Bench, policy: TransformersPolicy, folder: Path) -> None:
    """What torch's profiler says of a play of few tokens, whose steps are captured already."""
    from torch.profiler import ProfilerActivity, profile

    whole, policy.max_new_tokens = policy.max_new_tokens, min(24, policy.max_new_tokens)
    on_gpu = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        bench.play(policy)
        synchronised(bench.device)
    policy.max_new_tokens = whole
    table, keys = profiled.key_averages(), ["self_cpu_time_total", *(["self_cuda_time_total"] if on_gpu else [])]
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(f"by {key}\n{table.table(sort_by=key, row_limit=30, max_name_column_width=90)}" for key in keys)
    (folder / f"static-{bench.size.hidden}x{bench.size.layers}.txt").write_text(text, encoding="utf-8")


def play_plain(bench: Bench, rows: Rows, profile: Path | None) -> None:
    """The graph as it is by default, and `generate` as it comes on the prompts that it showed."""
    policy = bench.policy("dynamic")
    policy.max_new_tokens = 4
    bench.play(policy)  # imports, kernels
    policy.max_new_tokens = bench.size.tokens
    states: list[EpisodeState] = []

    def play() -> int:
        states.extend(bench.play(policy))
        return sampled_tokens(states)

    rows.timed("graph, dynamic", play)
    shown = [[state["turns"][turn]["generation"]["prompt_ids"] for state in states] for turn in range(2)]
    policy.forget()
    bench.generate(shown, 4, {})
    half = max(4, bench.size.tokens // 2)
    rows.timed("generate", lambda: bench.generate(shown, half, {}), tokens_a_turn=half)


def generate_otherwise(bench: Bench, rows: Rows, what: str, options: dict[str, Any]) -> None:
    """`generate` without cuDNN's attention, on prompts as long as those of the graph."""
    dice = torch.Generator().manual_seed(0)
    shown = [
        torch.randint(3, bench.size.vocabulary, (bench.size.episodes, length), generator=dice).tolist()
        for length in (8, 12 + bench.size.tokens)
    ]
    with decoding_attention(bench.device) if bench.device.type == "cuda" else nullcontext():
        bench.generate(shown, bench.size.tokens if options else 4, options)
        rows.timed(what, lambda: bench.generate(shown, bench.size.tokens, options))


def check(bench: Bench, rows: Rows, profile: Path | None) -> None:
    """A play that cuts by top-p; greedy answers both ways; and log-probabilities as they were recorded against the
    trainer's own, before and after an update: at most 1e-4 apart in float32, 2e-2 in bfloat16."""
    torch.set_float32_matmul_precision("highest")
    kinds: dict[str, tuple[torch.dtype, dict[str, Any]]] = {
        "float32": (torch.float32, {}),
        "bfloat16 over float32 weights": (torch.bfloat16, {}),  # the trainer makes the weights float32
        "bfloat16, LoRA": (torch.bfloat16, {"lora": True}),
    }
    cutting = bench.policy("static")
    cut = lambda: rows.timed("graph, static, top-p", lambda: sampled_tokens(bench.play(cutting, Sampling(top_p=0.9))))
    rows.tried("graph, static, top-p", cut)
    rows.add("check, top-p", **captures(cutting))
    for kind, (dtype, options) in kinds.items():
        fresh = Bench(bench.name, bench.device, dtype)
        rows.tried(f"check, {kind}", partial(check_one, fresh, rows, kind, options))


def check_one(bench: Bench, rows: Rows, kind: str, options: dict[str, Any]) -> None:
    ways: list[DecodingName] = ["dynamic", "static"]
    answers = [[turn["generation"]["completion_ids"] for state in bench.play(bench.policy(way), GREEDY)
                for turn in state["turns"]] for way in ways]  # fmt: skip
    same = [one == other for one, other in zip(*answers, strict=True)]
    first = [one[:1] == other[:1] for one, other in zip(*answers, strict=True)]
    rows.add(f"check, {kind}: greedy answers alike", share=sum(same) / len(same), first_token=sum(first) / len(first))
    steps = ppo(bench, rows, f"check, {kind}", "static", checker=Parity(), learning_rate=1e-3, **options)
    before, after = (step.apart for step in steps)
    told = {"before_update": before, "after_update": after, "weights_moved": steps[0].moved}
    rows.add(f"check, {kind}: log-probabilities apart", **told)


class Parity:
    """Calls every other answer correct, so that there is something to learn."""

    async def check(self, response: str, reference: Any, *, problem: str | None = None) -> Verdict:
        return Verdict(Status.CORRECT if sum(map(ord, response)) % 2 else Status.WRONG)

    def validate_reference(self, reference: Any) -> str | None:
        return None


@dataclass
class Step:
    """What a step of PPO took, in seconds, and how far recorded log-probabilities were from the trainer's (largest)."""

    begun: float = 0.0
    played: float = 0.0
    scored: float = 0.0
    over: float = 0.0
    apart: float = 0.0
    moved: float = 0.0
    peaks: tuple[float | None, ...] = ()


class TimedTrainer(TurnPPOTrainer):
    """Times the parts of its steps."""

    timed: list[Step]
    compares = False

    def _play(self, problems: list[Problem]) -> Any:
        memory = Memory(self.accelerator.device)
        memory.begin()
        self.timed.append(Step(begun=time.perf_counter()))
        found = super()._play(problems)
        synchronised(self.accelerator.device)
        self.timed[-1].played, self.timed[-1].peaks = time.perf_counter(), (memory.peak, memory.held)
        memory.begin()
        return found

    def _tensors(self, episodes: Any) -> Any:
        batch = super()._tensors(episodes)
        synchronised(self.accelerator.device)
        self.timed[-1].scored = time.perf_counter()
        if self.compares:
            self.timed[-1].apart = self._apart(batch)
        return batch

    def _apart(self, batch: dict[str, torch.Tensor]) -> float:
        """How far the recorded log-probabilities are from those that scoring gives, at most."""
        device, training = self.accelerator.device, self.model.training
        self.model.eval()
        with torch.no_grad():
            own_RT, _ = self._scored(self.model, {name: tensor.to(device) for name, tensor in batch.items()})
        self.model.train(training)
        return float(((own_RT.cpu() - batch["old_per_token_logps"]).abs() * (batch["tool_mask"] > 0)).max())


class StepEnds(TrainerCallback):  # type: ignore[misc]
    """Notes when a step's update is over."""

    def __init__(self, trainer: TimedTrainer) -> None:
        self._trainer = trainer
        self._before = self._weights()

    def _weights(self) -> torch.Tensor:
        return torch.cat([part.detach().flatten()[:9].float() for part in self._trainer.model.parameters()])

    def on_step_end(self, *_: Any, **__: Any) -> None:
        trainer, memory = self._trainer, Memory(self._trainer.accelerator.device)
        synchronised(trainer.accelerator.device)
        step = trainer.timed[-1]
        step.over, step.peaks = time.perf_counter(), (*step.peaks, memory.peak)
        step.moved = float((self._weights() - self._before).abs().max())


def ppo(
    bench: Bench,
    rows: Rows,
    what: str,
    decoding: DecodingName,
    *,
    checker: Any = None,
    learning_rate: float = 1e-6,
    lora: bool = False,
    checkpointing: bool = False,
    steps: int = 2,
) -> list[Step]:
    """Steps of per-turn PPO on half of the episodes, the first of which warm up; the parts of the last."""
    from peft import LoraConfig

    policy, judge = bench.policy(decoding), checker or CountdownTask(4).checker
    chosen = bench.distinct[: max(1, len(bench.distinct) // 2)]
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    with tempfile.TemporaryDirectory() as folder, BusyShare(bench.device) as busy:
        config = TurnPPOConfig(
            output_dir=Path(folder), steps=steps, problems_per_step=len(chosen), episodes_per_problem=SAMPLES_A_PROBLEM,
            gradient_accumulation=bench.size.slices, activation_checkpointing=checkpointing, save_every=0,
            learning_rate=learning_rate, max_kl=1e6,
        )  # fmt: skip
        graph, signals = build_graph(policy, prompts=COUNTDOWN), CheckerRewards(StageTwo(alpha=2.0), judge)
        trainer = TimedTrainer(policy, graph, chosen, lambda batch: signals, config, peft_config=adapter)
        trainer.timed, trainer.compares = [], checker is not None
        trainer.add_callback(StepEnds(trainer))
        trainer.train()
    step, tokens = trainer.timed[-1], sampled_tokens([episode.state for episode in trainer.last_episodes])
    playing, peaks = step.played - step.begun, step.peaks
    told = {"tokens_per_second": tokens / playing, "gpu_percent": busy.percent(step.begun, step.played)}
    rows.add(f"{what}: playing", playing, **told, peak_gib=peaks[0], held_gib=peaks[1], **captures(policy))
    start = time.perf_counter()
    run_blocking(judge_all(judge, trainer.last_episodes))
    rows.add(f"{what}: judging, alone", time.perf_counter() - start, share=(time.perf_counter() - start) / playing)
    rows.add(f"{what}: scoring by the reference", step.scored - step.played)
    learning = busy.percent(step.scored, step.over)
    rows.add(f"{what}: update", step.over - step.scored, gpu_percent=learning, peak_gib=peaks[2])
    rows.add(f"{what}: step", step.over - step.begun, peak_gib=None if peaks[0] is None else max(peaks[0], peaks[2]))
    return trainer.timed


async def judge_all(checker: Any, episodes: Sequence[Any]) -> None:
    asked = [(turn["generation"]["text"], episode.problem) for episode in episodes for turn in episode.state["turns"]]
    await asyncio.gather(*(judged(checker, text, problem.reference, problem.prompt) for text, problem in asked))


def whole_logits(bench: Bench, rows: Rows, profile: Path | None) -> None:
    """Forward and backward pass of a slice of a PPO step with all logits at once, as the trainer does not do it."""
    length, count = 2 * bench.size.tokens + 16, bench.size.episodes // 2 // bench.size.slices
    bench.model.float().train()
    ids = torch.randint(3, bench.size.vocabulary, (count, length), device=bench.device)

    def update() -> None:
        with torch.autocast(bench.device.type, torch.bfloat16):
            logits = bench.model(input_ids=ids).logits[:, :-1].float()
        logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).mean().backward()

    update()
    rows.timed("forward and backward, whole logits", update, rows=count)


def play_ppo(bench: Bench, rows: Rows, profile: Path | None) -> None:
    ppo(bench, rows, "PPO, static", "static")


def play_ppo_as_usual(bench: Bench, rows: Rows, profile: Path | None) -> None:
    ppo(bench, rows, "PPO, dynamic", "dynamic")


def without_cudnn(bench: Bench, rows: Rows, profile: Path | None) -> None:
    generate_otherwise(bench, rows, "generate, no cuDNN", {})


def with_static_cache(bench: Bench, rows: Rows, profile: Path | None) -> None:
    generate_otherwise(bench, rows, "generate, static", {"cache_implementation": "static"})


def memory_of(what: str, **options: bool) -> Callable[[Bench, Rows, Path | None], None]:
    """One step, for its peak; it captures, too, so that playing takes longer."""

    def job(bench: Bench, rows: Rows, profile: Path | None) -> None:
        ppo(bench, rows, what, "static", steps=1, **options)

    return job


JOBS: dict[str, Callable[[Bench, Rows, Path | None], None]] = {
    "static": play_static,
    "plain": play_plain,
    "check": check,
    "ppo": play_ppo,
    "ppo-dynamic": play_ppo_as_usual,
    "ppo-lora": memory_of("first PPO, LoRA", lora=True),
    "ppo-checkpointing": memory_of("first PPO, checkpointing", checkpointing=True),
    "ppo-lora-checkpointing": memory_of("first PPO, LoRA and checkpointing", lora=True, checkpointing=True),
    "whole-logits": whole_logits,
    "no-cudnn": without_cudnn,
    "generate-static": with_static_cache,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", help=f"one of {', '.join(JOBS)}, or several with commas between them")
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--profile", type=Path)
    arguments = parser.parse_args()
    if not sys.stdin.readline():  # everything is imported: it may begin, unless nobody is there any more
        return
    faulthandler.dump_traceback_later(25, repeat=True)
    device = torch.device(arguments.device)
    rows = Rows(arguments.size, arguments.rows, device)
    for name in arguments.job.split(","):
        rows.tried(name, lambda job=JOBS[name]: job(Bench(arguments.size, device), rows, arguments.profile))


if __name__ == "__main__":
    main()
