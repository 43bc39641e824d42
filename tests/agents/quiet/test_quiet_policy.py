"""A model that thinks, as a policy: what is seen of it, and what not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from quiet_models import thinker
from small_models import problem, texts
from torch import Tensor

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.loading import named_policy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Policy, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.quiet.model import given, mixed_logits, sampled
from selfcorrect.agents.quiet.policy import QuietPolicy
from selfcorrect.agents.quiet.streams import read_texts
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError


def asked(text: str) -> list[Message]:
    return [Message(role="user", content=text)]


def generate(policy: QuietPolicy, prompts: list[str], sampling: Sampling) -> list[Generation]:
    async def all_at_once() -> list[Generation]:
        return await asyncio.gather(*(policy.generate(asked(prompt), sampling) for prompt in prompts))

    return asyncio.run(all_at_once())


def mixed_after(policy: QuietPolicy, ids: list[int], thought: list[int]) -> Tensor:
    """Log-probabilities (V,) of what follows `ids` when `thought` was thought."""
    model, row = policy.model, torch.tensor([ids])
    reading = read_texts(model.lm, row, torch.ones_like(row, dtype=torch.bool))
    found = model.think(reading, torch.tensor([[len(ids) - 1]]), given(torch.tensor([[thought]])))
    mixed = mixed_logits(reading.logits_BTV[0, -1], found.logits_BNSV[0, 0, 0], found.weight_BS[0, 0])
    return torch.log_softmax(mixed, dim=-1).detach()


def test_it_is_a_policy() -> None:
    assert isinstance(QuietPolicy(thinker(tokens=2)), Policy)


def test_logprobs_are_those_of_the_mixture_given_what_was_thought() -> None:
    policy = QuietPolicy(thinker(tokens=2), max_new_tokens=4)
    sampling = Sampling(seed=3)
    (generation,) = generate(policy, ["3 + 4 ="], sampling)
    aloud = asyncio.run(policy.think_aloud(asked("3 + 4 ="), sampling))
    read = list(generation["prompt_ids"])
    assert len(aloud) == len(generation["completion_ids"]) == 4
    for token, logprob, visible in zip(generation["completion_ids"], generation["logprobs"], aloud, strict=True):
        thought = policy.tokenizer.encode(visible.thought, add_special_tokens=False)
        assert logprob == pytest.approx(float(mixed_after(policy, read, thought)[token]), abs=1e-4)
        read.append(token)


def test_greedy_writing_takes_the_likeliest_token_of_the_mixture() -> None:
    policy = QuietPolicy(thinker(tokens=2), max_new_tokens=3)
    (generation,) = generate(policy, ["5 * 2 ="], GREEDY)
    aloud = asyncio.run(policy.think_aloud(asked("5 * 2 ="), GREEDY))
    read = list(generation["prompt_ids"])
    for token, visible in zip(generation["completion_ids"], aloud, strict=True):
        thought = policy.tokenizer.encode(visible.thought, add_special_tokens=False)
        assert token == int(mixed_after(policy, read, thought).argmax())
        read.append(token)


@pytest.mark.parametrize("kind", ["thought", "pause"])
def test_what_a_row_writes_does_not_depend_on_its_batch(kind: Any) -> None:
    policy = QuietPolicy(thinker(tokens=2, kind=kind), max_new_tokens=5)
    prompts = ["3 + 4 =", "9", "3 + 4 + 5 - 2 ="]
    together = generate(policy, prompts, Sampling(seed=11))
    for prompt, wanted in zip(prompts, together, strict=True):
        (alone,) = generate(policy, [prompt], Sampling(seed=11))
        assert alone["completion_ids"] == wanted["completion_ids"]
        assert alone["logprobs"] == pytest.approx(wanted["logprobs"], abs=1e-4)


def test_thoughts_are_hidden_until_they_are_asked_for() -> None:
    model = thinker(tokens=2)
    (hidden,) = generate(QuietPolicy(model, max_new_tokens=2), ["3 + 4 ="], Sampling(seed=5))
    (shown,) = generate(QuietPolicy(model, max_new_tokens=2, show_thoughts=True), ["3 + 4 ="], Sampling(seed=5))
    assert "startofthought" not in hidden["text"] and len(hidden["text"].split()) == 2
    assert shown["completion_ids"] == hidden["completion_ids"]
    words = shown["text"].split()
    assert words[0] == words[5] == "<|startofthought|>" and words[3] == words[8] == "<|endofthought|>"
    assert [words[4], words[9]] == hidden["text"].split()


def test_marks_of_thought_are_never_written_nor_read() -> None:
    policy = QuietPolicy(thinker(tokens=2), max_new_tokens=2)
    with pytest.raises(PolicyError, match=r"the prompt holds <\|endofthought\|>"):
        generate(policy, ["3 + <|endofthought|> ="], GREEDY)


def test_a_later_turn_continues_the_ids_of_the_first() -> None:
    policy = QuietPolicy(thinker(tokens=2), max_new_tokens=3)

    async def two_turns() -> tuple[Generation, Generation]:
        first = await policy.generate(asked("3 + 4 ="), Sampling(seed=1))
        return first, await policy.generate(asked("again :"), Sampling(seed=2), after=first)

    first, second = asyncio.run(two_turns())
    known = [*first["prompt_ids"], *first["completion_ids"]]
    assert second["prompt_ids"][: len(known)] == known
    assert [message["content"] for message in second["messages"]] == ["3 + 4 =", first["text"], "again :"]


def test_it_stops_at_stop_texts_and_limits() -> None:
    policy = QuietPolicy(thinker(tokens=1), max_new_tokens=6)
    (whole,) = generate(policy, ["3 + 4 ="], Sampling(seed=4))
    second = whole["text"].split()[1]
    (cut,) = generate(policy, ["3 + 4 ="], Sampling(seed=4, stop=(f" {second}",)))
    assert cut["finish_reason"] == "stop" and cut["text"] == whole["text"].split(f" {second}")[0]
    (short,) = generate(policy, ["3 + 4 ="], Sampling(seed=4, max_new_tokens=2))
    assert short["finish_reason"] == "length" and short["completion_ids"] == whole["completion_ids"][:2]


def test_it_writes_as_far_as_the_context_leaves_room_for_a_thought() -> None:
    model = thinker(tokens=3)
    model.lm.config.max_position_embeddings = 12
    policy = QuietPolicy(model, max_new_tokens=50)
    (generation,) = generate(policy, ["3 + 4 ="], Sampling(seed=0))
    assert len(generation["completion_ids"]) == 4  # the last one needs 4 + 3 positions of text and 5 of thought
    with pytest.raises(PolicyError, match="a thought takes 5 positions more"):
        generate(policy, ["3 + 4 + 5 + 6 ="], GREEDY)


def test_a_row_without_room_does_not_stop_those_that_have_some() -> None:
    model = thinker(tokens=2)
    model.lm.config.max_position_embeddings = 14
    policy = QuietPolicy(model, max_new_tokens=50)
    prompts = ["3 + 4 + 5 + 6 + 7 =", "9"]
    long, short = generate(policy, prompts, Sampling(seed=8))
    assert (len(long["completion_ids"]), len(short["completion_ids"])) == (1, 10)
    assert short["completion_ids"] == generate(policy, ["9"], Sampling(seed=8))[0]["completion_ids"]


def test_the_cost_of_thinking_is_counted() -> None:
    policy = QuietPolicy(thinker(tokens=3), max_new_tokens=4)
    assert policy.cost.per_visible_token == 0
    generate(policy, ["3 + 4 =", "5"], Sampling(seed=0))
    assert policy.cost.visible == 8 and policy.cost.per_visible_token == 6  # itself, 3 of thought, 2 marks
    assert policy.cost.milliseconds_per_visible_token > 0


def test_it_plays_in_graphs_and_its_calls_can_be_recorded() -> None:
    policy = QuietPolicy(thinker(tokens=2), max_new_tokens=3)
    with recording(policy) as recorder:
        state = play_sync(build_graph(policy, prompts=COUNTDOWN), [problem("3 5 get 8 :")], seed=1)[0]
    assert len(texts(state)) == 2 and len(recorder.calls) == 2
    assert all("thought" not in text for text in texts(state))


def test_a_folder_of_a_model_that_thinks_is_opened_as_one_by_name(tmp_path: Path) -> None:
    model = thinker(tokens=2)
    model.save(tmp_path)
    named, _ = named_policy(str(tmp_path), max_new_tokens=3)
    assert isinstance(named, QuietPolicy)
    (wanted,) = generate(QuietPolicy(model, max_new_tokens=3), ["3 + 4 ="], Sampling(seed=6))
    (found,) = generate(named, ["3 + 4 ="], Sampling(seed=6))
    assert found["completion_ids"] == wanted["completion_ids"]
    (tmp_path / "quiet.json").unlink()
    assert isinstance(named_policy(str(tmp_path))[0], TransformersPolicy)


def test_thoughts_hold_no_end_of_text_and_nothing_that_was_excluded() -> None:
    model = thinker(tokens=4, never=("3", ":"))
    never = {model.tokenizer.eos_token_id, *model.tokenizer.encode("3 :", add_special_tokens=False)}
    row = torch.arange(4, 40)[None]
    reading = read_texts(model.lm, row, torch.ones_like(row, dtype=torch.bool))
    found = model.think(reading, torch.arange(36).repeat(8)[None], sampled(torch.Generator().manual_seed(0)))
    assert not never & set(found.ids_BSM.flatten().tolist())
    assert bool(found.logprob_BS.isfinite().all())
    with pytest.raises(PolicyError, match="'3 4'.*no single token"):
        thinker(tokens=1, never=("3 4",))
