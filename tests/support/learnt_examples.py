"""What a supervised run has learnt, and whether the model knows it."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.training.arms.supervised.examples import Example


def examples_of(out: Path) -> list[Example]:
    lines = (out / "loops/loop-1/examples.jsonl").read_text().splitlines()
    return [Example.of_row(json.loads(line)) for line in lines]


def share_known(folder: Path, examples: Sequence[Example]) -> float:
    """The share of the examples whose answer the model would give greedily where it was learnt."""
    model = TransformersPolicy.from_pretrained(folder, device="cpu").model
    known = 0
    for example in examples:
        ids = torch.tensor([[*example.context_ids, *example.answer_ids]])
        likeliest_T = model(input_ids=ids).logits[0].argmax(-1)
        start = len(example.context_ids)
        known += likeliest_T[start - 1 : -1].tolist() == list(example.answer_ids)
    return known / len(examples)
