"""What training changed of a model, as one adapter: for a model that was taught in several stages, each merged into the
base of the next, so that none of their own adapters goes on a base that anybody else has."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfcorrect.agents.policies.pretrained import load_model_and_tokenizer
from selfcorrect.agents.policies.whole_models import whole_location
from selfcorrect.errors import TrainingError
from selfcorrect.training.runs.model_card import adapter_card

_SEED = 0
"""Of the random projections, so that the same two models give the same adapter."""
_SPARE, _ROUNDS = 8, 4
"""Columns beyond the rank, and power iterations, of the decomposition: what torch asks for a matrix whose singular
values hardly fall; what is left over is measured, whatever it is."""


@dataclass(frozen=True, slots=True)
class Difference:
    """An adapter that was written.

    Attributes:
        parameters: how many numbers it holds.
        left_over: largest share of a matrix's change, by its Frobenius norm, that the rank does not hold; 0 to 1.
    """

    parameters: int
    left_over: float


def adapter_between(
    base: str | Path,
    trained: str | Path,
    out: Path,
    *,
    rank: int,
    tolerance: float = 1e-3,
    dtype: torch.dtype = torch.float16,
) -> Difference:
    """Write to `out` a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) that makes `trained` of `base`.

    The change of each linear layer is cut to its largest `rank` singular values. Stages of ranks r and s give a change
    of rank r + s at most, which is held but for rounding.

    Args:
        base: a model's folder, Hugging Face id, or name such as "smollm2"; it is written down as the adapter's base.
        trained: the same model with other weights, as `model/` in a run's folder.
        out: the adapter's folder; the trained model's tokenizer, which holds its prompts and loop, goes there too.
        rank: of the adapter.
        tolerance: most of a change that may be left over; see `Difference.left_over`.
        dtype: of the stored numbers. float16 has eight times bfloat16's precision, and an adapter's numbers are
            far from its limits.

    Raises:
        TrainingError: the two are not one architecture; nothing changed; something other than linear layers did; or
            more than `tolerance` is left over: all weights were trained, or in more ranks than these.
        PolicyError: one of them cannot be loaded.
    """
    from peft import LoraConfig, get_peft_model

    model, _ = load_model_and_tokenizer(whole_location(str(base)), torch.float32)
    other, tokenizer = load_model_and_tokenizer(whole_location(str(trained)), torch.float32)
    changes = dict(_changes(model, other))
    layers = sorted({name.rpartition(".")[2] for name in changes})
    left_over = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        lora = LoraConfig(r=rank, lora_alpha=rank, target_modules=layers, task_type="CAUSAL_LM")
        adapted = get_peft_model(model, lora)
        for name, module in adapted.get_base_model().named_modules():
            if (change_OI := changes.get(name)) is not None:
                left = _hold(module, change_OI, rank, dtype)
                left_over = max(left_over, left)
                _refuse_left_over(name, left, tolerance, rank)
    adapted.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _told_of(out, str(base), Path(trained), rank)
    return Difference(sum(value.numel() for value in adapted.parameters() if value.requires_grad), left_over)


def _changes(model: Any, other: Any) -> Iterator[tuple[str, Tensor]]:
    """The (outputs, inputs) change of each linear layer that was changed, by the layer's name."""
    before, after = model.state_dict(), other.state_dict()
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise TrainingError("the two models are not one architecture: their weights have other names or shapes")
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    if not changed:
        raise TrainingError("the two models are equal: there is nothing that an adapter could hold")
    for name in changed:
        layer, _, kind = name.rpartition(".")
        if layer not in linear or kind != "weight":
            raise TrainingError(
                f"{name} was changed too, and an adapter holds linear layers only: share the whole model"
            )
        yield layer, after[name] - before[name]


def _hold(module: Any, change_OI: Tensor, rank: int, dtype: torch.dtype) -> float:
    """Give a layer's adapter the change; returns which share of it is left over."""
    most = min(rank + _SPARE, *change_OI.shape)
    left_OK, values_K, right_IK = torch.svd_lowrank(change_OI, q=most, niter=_ROUNDS)
    roots_R = values_K[:rank].sqrt()
    up_OR, down_RI = left_OK[:, :rank] * roots_R, (right_IK[:, :rank] * roots_R).T
    for weights, found in ((module.lora_B, up_OR), (module.lora_A, down_RI)):
        weights["default"].weight.data = found.to(dtype).contiguous()
    return float((change_OI - up_OR @ down_RI).norm() / change_OI.norm())


def _refuse_left_over(name: str, left: float, tolerance: float, rank: int) -> None:
    if left > tolerance:
        raise TrainingError(
            f"rank {rank} leaves {left:.2g} of the change of {name}, more than {tolerance:g}: give the sum of the "
            "ranks it was trained in, or share the whole model"
        )


def _told_of(out: Path, base: str, trained: Path, rank: int) -> None:
    """Write down the base by the name that was given, in the adapter's config and on its card: the trained model's own
    card where it has one, in the place of PEFT's form to be filled in."""
    path, card = out / "adapter_config.json", trained / "README.md"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    written = card.read_text(encoding="utf-8") if card.is_file() else _NO_CARD
    written = re.sub(r"--model \S+", lambda _: f"--model {out}", written)
    told = f"An adapter (LoRA, rank {rank}) on `{base}`: all that its training changed of that model, in every stage.\n"
    (out / "README.md").write_text(adapter_card(written, base, told), encoding="utf-8")


_NO_CARD = "---\npipeline_tag: text-generation\ntags: [selfcorrect]\n---\n# An adapter\n"
