"""A batch that rows join and leave at any step: the same tokens as ever, caches taken up again, nobody kept waiting."""

import asyncio
from functools import cache
from itertools import product
from typing import Any

import pytest
import torch
from one_batch import EOS, TOKENIZER, decoding, request, to_the_end, with_lora
from small_models import MODELS, llama, problems
from transformers import PreTrainedModel

from selfcorrect.agents.decoding.continuous import ContinuousDecoding
from selfcorrect.agents.decoding.engine import Decoded, Request, Ticket
from selfcorrect.agents.decoding.fixed_step import why_not_fixed
from selfcorrect.agents.decoding.prefill import Reader
from selfcorrect.agents.decoding.turn_cache import Shelf
from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import Generation, Message

PROMPTS = ["3 5 7 get 8 :", "1", "2 2 2", "3 5 7 get 8 :"] * 4


def with_eager_attention(vocabulary: int) -> PreTrainedModel:
    model = llama(vocabulary)
    model.set_attn_implementation("eager")
    return model


KINDS = {"llama": llama, "gpt2": MODELS["gpt2"], "eager": with_eager_attention, "lora": with_lora}


def turns(model: Any, sampling: Sampling, **options: Any) -> list[list[Generation]]:
    policy = TransformersPolicy(model, TOKENIZER, max_new_tokens=12, max_batch=7, **options)
    graph = build_graph(policy, prompts=COUNTDOWN, revisions=2)
    states = play_sync(graph, problems(PROMPTS), sampling=sampling, seed=3)
    return [[turn["generation"] for turn in state["turns"]] for state in states]


WAYS = {"0": GREEDY, "1": Sampling(), "cut": Sampling(temperature=0.7, top_p=0.8)}


@cache
def usual_turns(kind: str, way: str) -> tuple[Any, list[list[Generation]]]:
    """A model, and what it says in batches that run to their end."""
    model = KINDS[kind](len(TOKENIZER))
    return model, turns(model, WAYS[way], decoding="dynamic")


@pytest.mark.parametrize(
    ("kind", "in_thread", "way"),
    [
        pytest.param(*case, marks=[] if "llama" in case or case[1:] == (True, "1") else [pytest.mark.slow])
        for case in product(KINDS, (True, False), WAYS)
    ],
)
def test_episodes_are_those_of_batches_that_run_to_their_end(kind: str, in_thread: bool, way: str) -> None:
    model, usual = usual_turns(kind, way)
    static = turns(model, WAYS[way], decoding="static", in_thread=in_thread)
    for expected, found in zip(usual, static, strict=True):
        for one, other in zip(expected, found, strict=True):
            assert other["completion_ids"] == one["completion_ids"]
            assert other["prompt_ids"] == one["prompt_ids"]
            assert other["logprobs"] == pytest.approx(one["logprobs"], abs=1e-4)


def test_a_greedy_answer_is_that_of_plain_generate() -> None:
    model = llama(len(TOKENIZER))
    for generation in turns(model, GREEDY, decoding="static")[0]:
        ids = torch.tensor([generation["prompt_ids"]])
        output = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12,
                                eos_token_id=EOS, pad_token_id=0)  # fmt: skip
        assert output[0, ids.shape[1] :].tolist() == generation["completion_ids"]


def test_later_turns_read_only_what_is_new_and_equal_prompts_are_read_once() -> None:
    model, shapes = llama(len(TOKENIZER)), list[tuple[int, int]]()
    model.register_forward_pre_hook(
        lambda module, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    policy = TransformersPolicy(model, TOKENIZER, max_new_tokens=12, decoding="static")
    play_sync(build_graph(policy, prompts=COUNTDOWN, revisions=2), problems([PROMPTS[0]] * 6), sampling=Sampling())
    read = [shape for shape in shapes if shape[1] > 1][1:]  # after the trial of both ways
    assert read[0] == (1, 6)
    assert max(columns for _, columns in read[1:]) <= 4


def test_a_model_with_sliding_windows_is_decoded_as_usual_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = MODELS["sliding"](len(TOKENIZER))
    assert turns(model, Sampling(), decoding="static") == turns(model, Sampling(), decoding="dynamic")
    assert "sliding window" in caplog.text


def test_a_model_that_reads_masks_in_a_way_of_its_own_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama(len(TOKENIZER))
    reader = Reader(model)
    with torch.no_grad():
        assert why_not_fixed(reader) is None
        forward = model.model.forward

        def without_mask(*args: Any, **given: Any) -> Any:
            mask = given.get("attention_mask")
            shown = torch.ones_like(mask) if mask is not None and mask.ndim == 4 else mask
            return forward(*args, **{**given, "attention_mask": shown})

        monkeypatch.setattr(model.model, "forward", without_mask)
        assert "logits that are off by" in str(why_not_fixed(reader))


# The batch itself, without a policy around it.


def test_who_comes_later_joins_and_may_be_done_before_the_others() -> None:
    batch = decoding(eos=[])
    batch.add(1, request([3, 4, 5], seed=1, limit=200))
    with torch.no_grad():
        batch.advance()
        batch.add(2, request([6, 7], seed=2, limit=3))
        answered: list[tuple[int, Decoded]] = []
        while not answered:
            answered += batch.advance()
    assert [number for number, _ in answered] == [2]
    assert batch.rows == 1 and batch.steps < 30


def test_slots_that_are_free_again_are_filled_from_those_who_wait() -> None:
    limits = [2] * 6 + [20] * 2
    batch = decoding(eos=[], max_rows=4)
    for number, limit in enumerate(limits):
        batch.add(number, request([3 + number], seed=number, limit=limit))
    ended = to_the_end(batch)
    assert {number: len(one.ids) for number, one in ended.items()} == dict(enumerate(limits))
    assert batch.steps <= 2 + 2 + 20  # one after the other, the two halves would take 1 + 19 with the long ones at once


def test_long_prompts_are_read_in_parts_and_nothing_else_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fresh prompts and of conversations that go on; equal prompts are in one part, and the slots do not move."""
    read: list[tuple[int, int]] = []
    reads = Reader.read

    def noted(self: Reader, ids_RC: Any, *rest: Any) -> Any:
        if ids_RC.shape[1] > 1:
            read.append(tuple(ids_RC.shape))
        return reads(self, ids_RC, *rest)

    monkeypatch.setattr(Reader, "read", noted)
    lengths = [30, 3, 9, 9, 31, 5, 4, 3]
    asked = [request([3 + n % 5] * length, seed=n, limit=4) for n, length in enumerate(lengths)]
    told = {}
    for most in (65_536, 64):
        monkeypatch.setattr("selfcorrect.agents.decoding.continuous.TOKENS_AT_ONCE", most)
        batch = decoding(max_rows=8)
        for number, one in enumerate(asked):
            batch.add(number, one)
        generation = batch._store.generation
        read.clear()
        first = to_the_end(batch)
        told[most] = [(first[n].ids, first[n].logprobs) for n in range(len(asked))]
        assert batch._store.generation <= generation + 1
    assert [(ids, pytest.approx(values, abs=1e-4)) for ids, values in told[65_536]] == told[64]
    assert [shape for shape in read if shape[1] > 9] == [(2, 31)] and all(rows * width <= 64 for rows, width in read)


def test_who_hangs_up_leaves_before_the_next_step() -> None:
    batch, ticket = decoding(eos=[]), Ticket()
    batch.add(1, request([3], seed=1, limit=200, ticket=ticket))
    batch.add(2, request([4], seed=2, limit=200))
    with torch.no_grad():
        batch.advance()
        ticket.gone = True
        batch.advance()
        assert batch.rows == 1
    assert list(to_the_end(batch)) == [2]


def test_conversations_beyond_the_limit_are_forgotten_oldest_first() -> None:
    shelf = Shelf()
    shelf.limit_bytes = 10**9
    batch = decoding(eos=[], max_rows=2, shelf=shelf)
    first = to_the_end_of(batch, request([3, 4], seed=1, limit=3))
    again = request([3, 4, *first.ids, 5], seed=2, limit=3, known=2 + len(first.ids))
    assert shelf.knows(again)
    shelf.limit_bytes = shelf.bytes
    to_the_end_of(batch, request([6, 7], seed=3, limit=3))
    assert not shelf.knows(again)


def test_a_conversation_that_is_had_again_is_kept_once() -> None:
    shelf = Shelf()
    shelf.limit_bytes = 10**9
    batch = decoding(eos=[], max_rows=2, shelf=shelf)
    held = []
    for _ in range(6):  # the same seeds, as in greedy evaluations of the same problems
        for number in range(2):
            batch.add(number, request([3, 4 + number], seed=number, limit=3))
        to_the_end(batch)
        held.append((shelf.rows, shelf.bytes))
    assert held[-1] == held[-2] and shelf.rows <= shelf.limit_rows == 4


def to_the_end_of(batch: ContinuousDecoding, one: Request) -> Decoded:
    batch.add(0, one)
    return to_the_end(batch)[0]


def test_weights_that_learnt_between_two_batches_are_those_that_decode() -> None:
    model = llama(len(TOKENIZER))
    policy = TransformersPolicy(model, TOKENIZER, max_new_tokens=12, decoding="static")
    graph = build_graph(policy, prompts=COUNTDOWN)
    play = lambda: play_sync(graph, problems(PROMPTS[:3]), sampling=GREEDY)
    before, batch = play(), policy._ongoing.decoding
    with torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    after = play()
    assert policy._ongoing.decoding is batch is not None
    fresh = TransformersPolicy(model, TOKENIZER, max_new_tokens=12, decoding="dynamic")
    expected = play_sync(build_graph(fresh, prompts=COUNTDOWN), problems(PROMPTS[:3]), sampling=GREEDY)
    assert completions(after) == completions(expected) != completions(before)


def completions(states: Any) -> list[list[int]]:
    return [turn["generation"]["completion_ids"] for state in states for turn in state["turns"]]


def test_a_gpu_decodes_in_fixed_shapes_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = {}
    for on_gpu in (False, True):
        monkeypatch.setattr(TransformersPolicy, "_on_nvidia", on_gpu)
        for way in ("dynamic", "auto"):
            policy = TransformersPolicy(llama(len(TOKENIZER)), TOKENIZER, decoding=way)  # type: ignore[arg-type]
            ways[on_gpu, way] = type(policy._coalescer).__name__
    assert ways == {
        (False, "auto"): "Batcher",
        (False, "dynamic"): "Batcher",
        (True, "auto"): "Joining",
        (True, "dynamic"): "Batcher",
    }
    policy.decode_in_batches()  # as training does where weights are sharded, and lie elsewhere at every step
    assert not policy.captures


def test_slots_and_finished_turns_share_one_limit() -> None:
    policy = TransformersPolicy(llama(len(TOKENIZER)), TOKENIZER, max_new_tokens=12, decoding="static")
    policy._ongoing._shelf_bytes = lambda device, held: 1000 + held
    graph = build_graph(policy, prompts=COUNTDOWN)
    for _ in range(2):
        play_sync(graph, problems(PROMPTS[:3]), sampling=GREEDY)
    shelf, batch = policy._ongoing.shelf, policy._ongoing.decoding
    assert shelf is not None and batch is not None
    held = shelf.bytes
    policy._ongoing._begin()
    assert shelf.limit_bytes == 1000 + held


def test_calls_of_a_policy_join_the_batch_that_is_under_way() -> None:
    policy = TransformersPolicy(llama(len(TOKENIZER)), TOKENIZER, decoding="static", in_thread=True)
    policy._eos_ids = []
    order: list[str] = []

    async def ask(name: str, limit: int) -> None:
        await policy.generate([Message(role="user", content="3 5")], Sampling(max_new_tokens=limit, seed=1))
        order.append(name)

    async def crowd() -> None:
        long = asyncio.create_task(ask("long", 200))
        while policy._ongoing.decoding is None or policy._ongoing.decoding.steps < 1:
            await asyncio.sleep(0.001)
        await asyncio.gather(long, ask("short", 2))

    asyncio.run(crowd())
    assert order == ["short", "long"]
