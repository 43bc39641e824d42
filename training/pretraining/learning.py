"""Learning documents: batches of them, the optimisers, and the loop."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from selfcorrect.training.pretraining.corpus import Document
from selfcorrect.training.pretraining.vocabulary import EOS

Report = Callable[[str], None]


def learn(
    model: Any,
    tokenizer: Any,
    documents: Iterator[Document],
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
        ids, learnt = collate(tokenizer, list(itertools.islice(documents, rows)))
        losses.append(_update(model, optimisers, ids, learnt))
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


def collate(tokenizer: Any, documents: Sequence[Document]) -> tuple[Tensor, Tensor]:
    """Token ids (R, T), right-padded, and which of them are learnt (R, T) as 0.0 or 1.0."""
    context = [tokenizer.encode(document.context) for document in documents]
    whole = [tokenizer.encode(f"{document.context} {document.continuation} {EOS}") for document in documents]
    length = max(map(len, whole))
    ids = torch.full((len(whole), length), tokenizer.pad_token_id)
    learnt = torch.zeros(len(whole), length)
    for row, (shown, document) in enumerate(zip(context, whole, strict=True)):
        ids[row, : len(document)] = torch.tensor(document)
        learnt[row, len(shown) : len(document)] = 1.0
    return ids, learnt


def _update(model: Any, optimisers: Sequence[torch.optim.Optimizer], ids: Tensor, learnt: Tensor) -> float:
    logits = model(input_ids=ids).logits[:, :-1]
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


def architecture(recipe: Shape, tokenizer: Any) -> Any:
    """The configuration of a small Llama for `tokenizer`'s words; texts of up to 256 tokens."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
