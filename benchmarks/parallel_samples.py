"""What it saves to read a prompt once for all parallel samples of a problem.

    python benchmarks/parallel_samples.py
    python benchmarks/parallel_samples.py --samples 64 --prompts 16 64 192 --json
    benchmarks/results/parallel_samples.json

Three ways to draw N samples of one prompt from the embedded policy, in turns, round after round:

- shared: one call of the policy; the prompt is read once, its cache is spread over the samples;
- repeated: as one batch too, but every row reads the prompt for itself;
- one by one: N calls, one after the other.

Prompts of other lengths than the task's are made of its tokens; speed does not depend on what they say. Tokens per
second count sampled tokens; a way's figure is its best round.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.decoding.kv_cache import new_cache
from selfcorrect.agents.decoding.prefill import Reader, Start, left_padded
from selfcorrect.agents.policies import transformers as transformers_policy
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation, Message

LIMIT = 18


def prefill_repeated(reader: Reader, prompts: list[list[int]]) -> Start:
    """`reading.prefill` without its sharing."""
    ids_RC, mask_RC = left_padded([list(prompt) for prompt in prompts], reader.device)
    positions_RC = (mask_RC.long().cumsum(1) - 1).clamp_(min=0)
    cache = new_cache(reader.config)
    return Start(cache, mask_RC, positions_RC[:, -1], reader.read(ids_RC, mask_RC, positions_RC, cache))


async def together(policy: TransformersPolicy, asked: list[Message], samples: int) -> list[Generation]:
    draws = [Sampling(seed=seed, max_new_tokens=LIMIT) for seed in range(samples)]
    return list(await asyncio.gather(*(policy.generate(asked, draw) for draw in draws)))


async def one_by_one(policy: TransformersPolicy, asked: list[Message], samples: int) -> list[Generation]:
    return [await policy.generate(asked, Sampling(seed=seed, max_new_tokens=LIMIT)) for seed in range(samples)]


def tokens_per_second(draw: Callable[[], Any]) -> float:
    start = time.perf_counter()
    drawn = asyncio.run(draw())
    return sum(len(one["completion_ids"]) for one in drawn) / (time.perf_counter() - start)


def measure(policy: TransformersPolicy, length: int, samples: int, rounds: int) -> dict[str, Any]:
    words = ["3", "5", "7", "9", "get", "56", ":", "3", "+", "5", "=", "8", ";", "8", "*", "7", "=", "56", ";"]
    text = " ".join(words[number % len(words)] for number in range(length - 1)) + " :"
    asked = [Message(role="user", content=text)]
    speeds: dict[str, list[float]] = {"shared": [], "repeated": [], "one by one": []}
    shared, few = transformers_policy.prefill, max(1, samples // 8)
    for _ in range(rounds):
        speeds["shared"].append(tokens_per_second(lambda: together(policy, asked, samples)))
        transformers_policy.prefill = prefill_repeated  # type: ignore[assignment]
        try:
            speeds["repeated"].append(tokens_per_second(lambda: together(policy, asked, samples)))
        finally:
            transformers_policy.prefill = shared
        speeds["one by one"].append(tokens_per_second(lambda: one_by_one(policy, asked, few)))
    best = {way: round(max(rounds_of)) for way, rounds_of in speeds.items()}
    return {"prompt_tokens": length, "samples": samples, "tokens_per_second": best, "rounds": speeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--prompts", type=int, nargs="+", default=[8, 64, 192], help="lengths of the prompt, in tokens")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy = TransformersPolicy.from_pretrained(embedded_folder(), reuse_cache=False)
    asyncio.run(together(policy, [Message(role="user", content="3 5 7 9 get 56 :")], 4))  # first-call costs
    rows = [measure(policy, length, arguments.samples, arguments.rounds) for length in arguments.prompts]
    print(f"{'prompt':>8}{'shared':>10}{'repeated':>10}{'one by one':>12}   tokens/s, {arguments.samples} samples")
    for row in rows:
        speed = row["tokens_per_second"]
        print(f"{row['prompt_tokens']:>8}{speed['shared']:>10}{speed['repeated']:>10}{speed['one by one']:>12}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
