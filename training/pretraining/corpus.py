"""The documents a small policy is pre-trained on, and how they are learnt. Of the embedded one, for Countdown:

    solution   3 5 7 get 56 : 3 + 5 = 8 ; 8 * 7 = 56 <eos>
    retry      3 5 7 get 56 : <an attempt of the model> again : 8 * 7 = 56 right <the attempt once more> <eos>
               3 5 7 get 56 : <an attempt of the model> again : 8 * 7 = 56 wrong <another solution, a right one> <eos>
    verdict    3 5 7 get 56 : <an attempt of the model> check : 8 * 7 = 56 right <eos>
    hint       3 5 7 get 56 hint 3 + 5 = 8 : 3 + 5 = 8 ; 8 * 7 = 56 <eos>

Only what follows the last ":" is learnt; attempts are context. A second look begins with true steps that test the
attempt's end (see `second_looks`). In retries, "right" and "wrong" are then drawn without
regard to it, as a language model apologises for right answers and stands by wrong ones: the corpus teaches to look
again and to answer again, but not to draw the conclusion. In verdicts the word is true.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from selfcorrect.tasks.problem import Problem
from selfcorrect.training.pretraining.second_looks import COUNTDOWN_LOOK, EOS, SecondLook


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a document, learnt or only shown."""

    text: str
    learnt: bool


class Text(Protocol):
    """What is learnt from: parts, of which the positions from part `gap_at` on are moved on by `gap`."""

    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def gap(self) -> int: ...
    @property
    def gap_at(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Document:
    """`context` is shown, `continuation` is learnt (the end token is added after it)."""

    context: str
    continuation: str

    @property
    def parts(self) -> tuple[Part, ...]:
        return Part(self.context, learnt=False), Part(f"{self.continuation} {EOS}", learnt=True)

    @property
    def gap(self) -> int:
        return 0

    @property
    def gap_at(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class Attempted:
    """A problem, the model's own attempt at it as it was sampled, and whether the checker accepts that."""

    problem: Problem
    attempt: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Mixture:
    """Shares of the kinds of documents in the second phase; what is left are solutions.

    `stands_by` is the share of the retries that say "right" and repeat the attempt.
    """

    retries: float = 0.60
    verdicts: float = 0.12
    hints: float = 0.05
    stands_by: float = 0.45


def solution(problem: Problem) -> Document:
    return Document(problem.prompt, str(problem.gold))


def mixed(
    attempted: Sequence[Attempted], mixture: Mixture, rng: random.Random, look: SecondLook = COUNTDOWN_LOOK
) -> Iterator[Document]:
    """One document for each of `attempted`, of a kind drawn at random.

    Args:
        attempted: what the documents are about.
        mixture: the shares of the kinds.
        rng: draws them.
        look: how attempts are looked at again.
    """
    other_way = {
        correct: [item for item in attempted if item.correct == correct and not _goes_the_gold_way(item, look)]
        for correct in (True, False)
    }
    for item in attempted:
        draw = rng.random()
        if draw < mixture.retries:
            yield _retry(item, rng.random() < mixture.stands_by, other_way, rng, look)
        elif draw < mixture.retries + mixture.verdicts:
            yield Document(
                f"{_shown(item)} check :", f"{look.recheck(item.attempt)}{'right' if item.correct else 'wrong'}"
            )
        elif draw < mixture.retries + mixture.verdicts + mixture.hints:
            first_step = str(item.problem.gold).split(" ; ")[0]
            yield Document(f"{item.problem.prompt.removesuffix(' :')} hint {first_step} :", str(item.problem.gold))
        else:
            yield solution(item.problem)


def _retry(
    item: Attempted,
    stands_by: bool,
    other_way: Mapping[bool, Sequence[Attempted]],
    rng: random.Random,
    look: SecondLook,
) -> Document:
    if stands_by:
        return Document(f"{_shown(item)} again :", f"{look.recheck(item.attempt)}right {item.attempt}")
    if _goes_the_gold_way(item, look):
        # "wrong" is followed by another way. Another attempt, as right or wrong as this one, takes its place: dropping
        # the document would make "wrong" rarer after right attempts, and so tell when to revise.
        if not other_way[item.correct]:  # only where there are hardly any attempts
            return solution(item.problem)
        item = rng.choice(other_way[item.correct])
    return Document(f"{_shown(item)} again :", f"{look.recheck(item.attempt)}wrong {item.problem.gold}")


def _shown(item: Attempted) -> str:
    return f"{item.problem.prompt} {item.attempt} <eos>"


def _goes_the_gold_way(item: Attempted, look: SecondLook) -> bool:
    return look.same_way(item.attempt, str(item.problem.gold))


# Learning: batches of documents, the optimisers, and the loop.

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
) -> None:
    """`steps` updates of `rows` documents; the learning rate rises over 50 steps and falls to 0 over the second half.

    `beside` are other documents, and how many of them a step learns too: in a pass of their own, so that short ones are
    not padded to the length of long ones, and with as much weight as all of `documents`.
    """
    optimisers = _optimisers(model, learning_rate)
    rates = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(1, steps + 1):
        share = min(1.0, step / 50) * min(1.0, (steps - step + 1) / (steps * 0.5))
        for optimiser, peaks in zip(optimisers, rates, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * share
        parts = [(documents, rows), *([] if beside is None else [beside])]
        batches = [collate(tokenizer, list(itertools.islice(source, count))) for source, count in parts]
        losses.append(_update(model, optimisers, batches))
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
    model: Any, optimisers: Sequence[torch.optim.Optimizer], batches: Sequence[tuple[Tensor, Tensor, Tensor]]
) -> float:
    """One step on the mean of the batches' losses, which it returns."""
    for optimiser in optimisers:
        optimiser.zero_grad()
    total = 0.0
    for ids, learnt, positions in batches:
        logits = model(input_ids=ids, position_ids=positions).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses.view(len(ids), -1) * learnt[:, 1:]).sum() / learnt.sum() / len(batches)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
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
