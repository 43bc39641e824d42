"""How small policies learn their documents: batches, the optimisers, the loop, and the shape of the models."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

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
    beside: tuple[Iterator[Text], int] | None = None,
    minutes: float = math.inf,
    watch: Callable[[int], None] | None = None,
) -> None:
    """`steps` updates of `rows` documents; the learning rate rises over 50 steps and falls to 0 over the second half.

    Args:
        model: learns, where it is: on a GPU another process makes the documents meanwhile.
        tokenizer: knows the words of the documents.
        documents: without end.
        rows: of them a step.
        steps: at most.
        learning_rate: of Muon at its highest; see `Recipe`.
        report: told the losses every 100 steps.
        beside: other documents, and how many of them a step learns too: in a pass of their own, so that short ones are
            not padded to the length of long ones, and with as much weight as all of `documents`.
        minutes: after which it ends, however many steps it has made: the rate falls with what ends sooner.
        watch: called with their number after every 100 steps.
    """
    optimisers = _optimisers(model, learning_rate)
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    losses: list[Tensor] = []
    start = time.perf_counter()
    sources = [(documents, rows), *([] if beside is None else [beside])]
    for step, batches in zip(range(1, steps + 1), _batches(tokenizer, sources, model.device), strict=False):
        seconds = time.perf_counter() - start
        done = max((step - 1) / steps, seconds / (60 * minutes))
        share = min(1.0, step / 50) * min(1.0, (1 - done) / 0.5)
        for optimiser, peaks in zip(optimisers, rates, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * max(0.0, share)
        losses.append(_update(model, optimisers, batches))
        last = step == steps or seconds >= 60 * minutes
        if step % 100 == 0 or last:
            mean = float(torch.stack(losses).mean())
            report(f"step {step}/{steps}: loss {mean:.4f}, {time.perf_counter() - start:.0f} s")
            losses.clear()
        if watch is not None and step % 100 == 0 and not last:
            watch(step)
        if last:
            break


Batch = tuple[Tensor, Tensor, Tensor]
"""Token ids, what of them is learnt, and their positions; see `collate`."""


class _Batches(IterableDataset[list[Batch]]):
    """Batches of every source, without end."""

    def __init__(self, tokenizer: Any, sources: Sequence[tuple[Iterator[Text], int]]) -> None:
        self.tokenizer, self.sources = tokenizer, sources

    def __iter__(self) -> Iterator[list[Batch]]:
        while True:
            yield [collate(self.tokenizer, list(itertools.islice(*source))) for source in self.sources]


def _batches(
    tokenizer: Any, sources: Sequence[tuple[Iterator[Text], int]], device: torch.device, *, ahead: bool | None = None
) -> Iterator[list[Batch]]:
    """The batches on `device`. For an accelerator they are made `ahead`: a small model there would wait for its
    documents. By one process, so they are the same ones."""
    if not (device.type != "cpu" if ahead is None else ahead):
        yield from _Batches(tokenizer, sources)
        return
    loader: Any = DataLoader(
        _Batches(tokenizer, sources),
        batch_size=None,
        num_workers=1,
        prefetch_factor=16,
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork",
    )
    for batches in loader:
        yield [tuple(part.to(device, non_blocking=True) for part in batch) for batch in batches]


def _optimisers(model: Any, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(others, lr=0.15 * learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def collate(tokenizer: Any, documents: Sequence[Text]) -> Batch:
    """Token ids (R, T), right-padded; which of them are learnt (R, T) as 0.0 or 1.0; their positions (R, T)."""
    texts = [part.text for document in documents for part in document.parts]
    encoded = (encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch_fast(texts))
    rows = [list(itertools.islice(encoded, len(document.parts))) for document in documents]
    length = max(sum(map(len, row)) for row in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    learnt, positions = torch.zeros(len(rows), length), torch.arange(length).repeat(len(rows), 1)
    for number, (row, document) in enumerate(zip(rows, documents, strict=True)):
        whole = list(itertools.chain.from_iterable(row))
        ids[number, : len(whole)] = torch.tensor(whole)
        kept = [float(part.learnt) for part, words in zip(document.parts, row, strict=True) for _ in words]
        learnt[number, : len(whole)] = torch.tensor(kept)
        if document.gap:
            positions[number, sum(map(len, row[: document.gap_at])) :] += document.gap
    return ids, learnt, positions


def _update(model: Any, optimisers: Sequence[torch.optim.Optimizer], batches: Sequence[Batch]) -> Tensor:
    """One step on the mean of the batches' losses, which it returns."""
    for optimiser in optimisers:
        optimiser.zero_grad()
    total = torch.zeros((), device=model.device)
    for ids, learnt, positions in batches:
        logits = model(input_ids=ids, position_ids=positions).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses.view(len(ids), -1) * learnt[:, 1:]).sum() / learnt.sum() / len(batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimiser in optimisers:
        optimiser.step()
    return total


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
