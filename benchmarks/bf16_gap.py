"""How far log-probabilities that were recorded in bfloat16 are from the trainer's, and whose fault that is.

    python benchmarks/bf16_gap.py            # the model of gpu.py's check: 4 layers, large logits; about 20 s of CPU
    python benchmarks/bf16_gap.py --lora     # random adapters on a bfloat16 base
    python benchmarks/bf16_gap.py 125m       # 30 layers, small logits; minutes

The same prompts are answered both ways of `decoding` and by transformers' own `generate`, and each answer is scored as
the trainer does, in bfloat16, and in float32. If an engine of ours erred, it would be farther from the trainer than
`generate`, or off to one side. A ratio is exp(scored - recorded), by which PPO clips.
"""

import argparse
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from gpu_bench import SIZES, Bench
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import DecodingName
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.training.ppo.scoring import completion_logprobs

ROWS, TOKENS, CLIP = 16, 32, 0.2
BF16 = partial(torch.autocast, "cpu", torch.bfloat16)
FLOAT32 = partial(torch.autocast, "cpu", enabled=False)


@dataclass(frozen=True)
class Answers:
    """R rows of equal length, T completion ids each."""

    ids_RC: Tensor
    mask_RC: Tensor
    recorded_RT: Tensor
    sampled_RT: Tensor

    @classmethod
    def of(cls, prompts: list[list[int]], completions: list[list[int]], logprobs: list[list[float]]) -> "Answers":
        width, tokens = max(map(len, prompts)), max(map(len, completions))
        ids_RC = torch.zeros(len(prompts), width + tokens, dtype=torch.long)
        mask_RC, recorded_RT = torch.zeros_like(ids_RC), torch.zeros(len(prompts), tokens)
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            whole = slice(width - len(prompt), width + len(completion))
            ids_RC[row, whole], mask_RC[row, whole] = torch.tensor([*prompt, *completion]), 1
            recorded_RT[row, : len(completion)] = torch.tensor(logprobs[row])
        return cls(ids_RC, mask_RC, recorded_RT, mask_RC[:, width:] > 0)

    def scored(self, model: Any, autocast: Any) -> Tensor:
        with torch.no_grad():
            tokens = self.recorded_RT.shape[1]
            return completion_logprobs(model, self.ids_RC, self.mask_RC, tokens, autocast=autocast, positions=False)[0]


def played(bench: Bench, way: DecodingName) -> Answers:
    policy = bench.policy(way, compute_dtype=torch.bfloat16)
    graph = build_graph(policy, prompts=COUNTDOWN, revisions=0)
    turns = [state["turns"][0]["generation"] for state in play_sync(graph, bench.problems, sampling=Sampling(), seed=3)]
    return Answers.of(
        [turn["prompt_ids"] for turn in turns],
        [turn["completion_ids"] for turn in turns],
        [turn["logprobs"] for turn in turns],
    )


def generated(bench: Bench, like: Answers) -> Answers:
    """Answers of transformers' `generate` to the prompts of `like`."""
    width = like.ids_RC.shape[1] - like.recorded_RT.shape[1]
    torch.manual_seed(0)
    with torch.no_grad(), BF16():
        found = bench.model.generate(
            input_ids=like.ids_RC[:, :width], attention_mask=like.mask_RC[:, :width], do_sample=True, top_k=0,
            max_new_tokens=TOKENS, eos_token_id=[], pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
    ids_RT = found.sequences[:, width:]
    logprobs_RTV = torch.stack(found.logits, 1).float().log_softmax(-1)
    recorded_RT = logprobs_RTV.gather(2, ids_RT[:, :, None])[:, :, 0]
    mask_RC = torch.cat([like.mask_RC[:, :width], torch.ones_like(ids_RT)], 1)
    return Answers(found.sequences, mask_RC, recorded_RT, torch.ones_like(ids_RT, dtype=torch.bool))


def with_adapters(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
    adapted = get_peft_model(model.to(torch.bfloat16), lora).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            weight.data = weight.data.float() / 10
    return adapted


def tell(what: str, one_RT: Tensor, other_RT: Tensor, sampled_RT: Tensor) -> None:
    apart = (one_RT - other_RT)[sampled_RT]
    ratio = apart.exp()
    print(
        f"{what:36} max {apart.abs().max():.4f}  mean {apart.abs().mean():.4f}  ratio {ratio.mean():.4f} +- "
        f"{ratio.std():.4f}  outside of 1 +- {CLIP}: {((ratio - 1).abs() > CLIP).float().mean():.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", nargs="?", default="small", choices=sorted(SIZES))
    parser.add_argument("--lora", action="store_true")
    chosen = parser.parse_args()
    SIZES[chosen.size] = replace(SIZES[chosen.size], episodes=ROWS, tokens=TOKENS)
    bench = Bench(chosen.size, torch.device("cpu"))
    add_fused_lm_head(bench.model, temperature=1.0)
    if chosen.lora:
        bench.model = with_adapters(bench.model)
    dynamic = played(bench, "dynamic")
    ways = {"dynamic": dynamic, "static": played(bench, "static"), "generate": generated(bench, dynamic)}
    for way, answers in ways.items():
        scored, exact = answers.scored(bench.model, BF16), answers.scored(bench.model, FLOAT32)
        tell(f"{way}: the trainer - recorded", scored, answers.recorded_RT, answers.sampled_RT)
        tell(f"{way}: float32 - recorded", exact, answers.recorded_RT, answers.sampled_RT)
        tell(f"{way}: float32 - the trainer", exact, scored, answers.sampled_RT)


if __name__ == "__main__":
    main()
