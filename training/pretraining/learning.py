"""Learning documents: batches of them, the optimisers, and the loop."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from selfcorrect.training.pretraining.corpus import Text

Report = Callable[[str], None]


def learn(
    model: Any,
    tokenizer: Any,
    documents: Iterator[Text],
    *,
    rows: int,
    steps: int,
    learning_rate: float,
    report: Report,
) -> None:
    """`steps` updates of `rows` documents; the learning rate rises over 50 steps and falls to 0 over the second
    half."""
    optimisers = _optimisers(model, learning_rate)
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(1, steps + 1):
        share = min(1.0, step / 50) * min(1.0, (steps - step + 1) / (steps * 0.5))
        for optimiser, peaks in zip(optimisers, rates, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * share
        ids, learnt, positions = collate(tokenizer, list(itertools.islice(documents, rows)))
        losses.append(_update(model, optimisers, ids, learnt, positions))
        if step % 100 == 0 or step == steps:
            report(f"step {step}/{steps}: loss {sum(losses) / len(losses):.4f}, {time.perf_counter() - start:.0f} s")
            losses.clear()


def _optimisers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(others, lr=0.15 * learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def collate(tokenizer: Any, documents: Sequence[Text]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids (R, T), right-padded; which of them are learnt (R, T) as 0.0 or 1.0; their positions (R, T)."""
    rows = [[tokenizer.encode(part.text) for part in document.parts] for document in documents]
    length = max(sum(map(len, row)) for row in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    learnt, positions = torch.zeros(len(rows), length), torch.arange(length).repeat(len(rows), 1)
    for number, (row, document) in enumerate(zip(rows, documents, strict=True)):
        begin = 0
        for which, (part, encoded) in enumerate(zip(document.parts, row, strict=True)):
            if document.gap and which == document.gap_at:
                positions[number, begin:] += document.gap
            end = begin + len(encoded)
            ids[number, begin:end] = torch.tensor(encoded)
            learnt[number, begin:end] = float(part.learnt)
            begin = end
    return ids, learnt, positions


def _update(
    model: Any, optimisers: Sequence[torch.optim.Optimizer], ids: Tensor, learnt: Tensor, positions: Tensor
) -> float:
    logits = model(input_ids=ids, position_ids=positions).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    loss = (losses.view(len(ids), -1) * learnt[:, 1:]).sum() / learnt.sum()
    for optimiser in optimisers:
        optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return float(loss.detach())


# The shape that small policies made here have.


class Shape(Protocol):
    """The size of a model."""

    @property
    def hidden(self) -> int: ...
    @property
    def intermediate(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def positions(self) -> int: ...


def architecture(recipe: Shape, tokenizer: Any) -> Any:
    """The configuration of a small Llama for `tokenizer`'s words."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
