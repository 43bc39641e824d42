"""Thoughts of all positions at once are what each would be alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet_models import one_by_one, thinkable, thinker
from torch import Tensor

from selfcorrect.agents.quiet.model import QuietModel, Thoughts, greedily, sampled
from selfcorrect.agents.quiet.model import given as written
from selfcorrect.agents.quiet.streams import Streams, read_on, read_texts

EXACT = 1e-4


@dataclass
class Stream:
    """One stream of a batch, as a text of its own."""

    text: list[int]
    ahead: list[int]
    row: int
    number: int


def texts_of(lengths: list[int], *, left: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    width, generator = max(lengths), torch.Generator().manual_seed(seed)
    ids = torch.randint(3, 40, (len(lengths), width), generator=generator)
    column = torch.arange(width)[None]
    length = torch.tensor(lengths)[:, None]
    return ids, column >= width - length if left else column < length


def streams_of(ids: Tensor, mask: Tensor, anchors: Tensor, ahead: int) -> Iterator[Stream]:
    """The streams at tokens that have `ahead` - 1 more after them."""
    for row in range(len(ids)):
        for number, anchor in enumerate(anchors[row].tolist()):
            after = ids[row, anchor + 1 : anchor + ahead][mask[row, anchor + 1 : anchor + ahead]].tolist()
            if mask[row, anchor] and len(after) == ahead - 1:
                before = ids[row, : anchor + 1][mask[row, : anchor + 1]].tolist()
                yield Stream(before, after, row, number)


def assert_same_alone(model: QuietModel, ids: Tensor, mask: Tensor, count: int, ahead: int) -> Thoughts:
    anchors = torch.arange(ids.shape[1]).repeat_interleave(count).expand(len(ids), -1)
    torch.manual_seed(7)
    with torch.no_grad():
        reading = read_texts(model.lm, ids, mask)
        thoughts = model.think(reading, anchors, sampled(), ahead=ahead)
    compared = 0
    for stream in streams_of(ids, mask, anchors, ahead):
        row, number, length = stream.row, stream.number, len(stream.text)
        thought = thoughts.ids_BSM[row, number].tolist()
        with torch.no_grad():
            logits, hidden = one_by_one(model, stream.text, thought, stream.ahead)
            weight = model.mixing(hidden[length - 1], hidden[-ahead])
        torch.testing.assert_close(thoughts.logits_BNSV[row, :, number], logits[-ahead:], atol=EXACT, rtol=0)
        torch.testing.assert_close(thoughts.weight_BS[row, number], weight, atol=EXACT, rtol=0)
        told = thinkable(model, logits[length : length + len(thought)])
        logprob = sum(float(told[place, token]) for place, token in enumerate(thought))
        assert float(thoughts.logprob_BS[row, number]) == pytest.approx(logprob, abs=EXACT)
        compared += 1
    assert compared
    return thoughts


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_parallel_thoughts_are_those_written_one_by_one(family: str, left: bool) -> None:
    ids, mask = texts_of([6, 3, 5], left=left)
    assert_same_alone(thinker(family, tokens=3), ids, mask, count=2, ahead=3)


@pytest.mark.parametrize("left", [False, True], ids=["padded right", "padded left"])
def test_pauses_in_parallel_are_those_read_one_by_one(left: bool) -> None:
    ids, mask = texts_of([6, 2], left=left)
    thoughts = assert_same_alone(thinker(tokens=3, kind="pause"), ids, mask, count=1, ahead=2)
    assert thoughts.ids_BSM.shape[-1] == 0


@settings(max_examples=8)
@given(
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    tokens=st.integers(1, 4),
    count=st.integers(1, 3),
    left=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_batch_is_read_as_its_streams_alone(
    lengths: list[int], tokens: int, count: int, left: bool, seed: int
) -> None:
    ids, mask = texts_of(lengths, left=left, seed=seed)
    assert_same_alone(thinker(tokens=tokens), ids, mask, count=count, ahead=1)


def test_a_stream_sees_no_other_stream_and_no_later_text() -> None:
    model = thinker(tokens=2)
    ids, mask = texts_of([5], left=False)
    anchors = torch.arange(5)[None]
    thoughts = torch.full((1, 5, 2), 4)
    others = thoughts.clone()
    others[:, [0, 1, 3, 4]] = 9
    changed = ids.clone()
    changed[:, 3:] = 11
    with torch.no_grad():
        wanted = model.think(read_texts(model.lm, ids, mask), anchors, written(thoughts)).logits_BNSV[0, 0, 2]
        found = model.think(read_texts(model.lm, changed, mask), anchors, written(others)).logits_BNSV[0, 0, 2]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_a_forgotten_thought_leaves_no_trace_in_the_text() -> None:
    model = thinker(tokens=2)
    ids, mask = texts_of([6], left=False)
    with torch.no_grad():
        plain = model.lm(input_ids=ids).logits[:, -1]
        reading = read_texts(model.lm, ids[:, :4], mask[:, :4])
        streams = Streams(model.lm, reading, torch.tensor([[1, 3, 3]]))
        streams.append(torch.randn(1, 2, 3, 32))
        streams.append(torch.randn(1, 1, 3, 32))
        streams.forget()
        reading = read_on(model.lm, reading, ids[:, 4:], mask[:, 4:])
    torch.testing.assert_close(reading.logits_BTV[:, -1], plain, atol=1e-5, rtol=0)


def test_greedy_thoughts_are_the_likeliest_tokens() -> None:
    model = thinker(tokens=3)
    ids, mask = texts_of([4], left=False)
    with torch.no_grad():
        thoughts = model.think(read_texts(model.lm, ids, mask), torch.tensor([[3]]), greedily)
        said = thoughts.ids_BSM[0, 0].tolist()
        logits, _ = one_by_one(model, ids[0].tolist(), said, [])
    assert said == thinkable(model, logits[4:7]).argmax(-1).tolist()


def test_gradients_flow_as_through_one_text() -> None:
    model = thinker(tokens=2)
    ids, mask = texts_of([4], left=False)
    thoughts = model.think(
        read_texts(model.lm, ids, mask), torch.tensor([[2]]), written(torch.tensor([[[5, 6]]])), ahead=2
    )
    parallel = torch.autograd.grad(
        thoughts.logits_BNSV.square().sum() + thoughts.logprob_BS.sum(), [*model.lm.parameters(), model.marks.stored]
    )
    logits, _ = one_by_one(model, ids[0, :3].tolist(), [5, 6], ids[0, 3:4].tolist())
    told = thinkable(model, logits[3:5])
    alone = torch.autograd.grad(
        logits[-2:].square().sum() + told[0, 5] + told[1, 6], [*model.lm.parameters(), model.marks.stored]
    )
    for found, wanted in zip(parallel, alone, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
