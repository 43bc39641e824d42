"""Budget forcing: what is put into a model's thinking, what is taken out of it, and what it is told when."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import problem

from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.scripted import ScriptedPolicy
from selfcorrect.agents.policies.thinking import Thinking, ThinkingPolicy
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN, PLAIN
from selfcorrect.agents.solving.blind_spot import blind_spot
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.tasks.countdown import CountdownTask

ASKED = [Message(role="user", content="?")]


class Letters:
    """A tokenizer with one token a letter; "$" ends."""

    eos_token_id, unk_token_id = ord("$"), None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(map(ord, text))

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class ScriptedThinker:
    """Says the next of its parts at every call, up to the limit or the first stop text; a part that ends with "$" ends
    there."""

    def __init__(self, *parts: str) -> None:
        self.parts, self.tokenizer = list(parts), Letters()
        self.seen: list[str] = []
        self.asked: list[Sampling] = []

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        empty = Generation(
            text="", messages=list(messages), prompt_ids=[1], completion_ids=[], logprobs=[], finish_reason="length"
        )
        return await self.extend(empty, sampling)

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        self.seen.append(self.tokenizer.decode(partial["completion_ids"]))
        self.asked.append(sampling)
        said, stop = self.parts.pop(0), None
        for words in sampling.stop:
            if words in said:
                said, stop = said[: said.index(words) + len(words)], words
        if sampling.max_new_tokens is not None and len(said) > sampling.max_new_tokens:
            said, stop = said[: sampling.max_new_tokens], None
        ids = [*partial["completion_ids"], *map(ord, said)]
        ended = stop is not None or said.endswith("$")
        text = self.tokenizer.decode(ids).removesuffix("$")
        whole: Generation = {
            **partial,
            "completion_ids": ids,
            "logprobs": [*partial["logprobs"], *[-1.0] * len(said)],
            "text": text if stop is None else text.removesuffix(stop),
            "finish_reason": "stop" if ended else "length",
        }
        return whole if stop is None else {**whole, "stop_text": stop}


def think(thinking: Thinking, *parts: str, sampling: Sampling = GREEDY) -> tuple[Generation, ScriptedThinker]:
    policy = ScriptedThinker(*parts)
    return asyncio.run(ThinkingPolicy(policy, thinking).generate(ASKED, sampling)), policy


def test_wait_takes_the_place_of_the_end_of_thinking() -> None:
    found, policy = think(Thinking(waits=2), "<think>7 or 8?</think>7$", " no, 9</think>", " yes, 9</think>", "9$")
    assert found["text"] == "<think>7 or 8? Wait no, 9 Wait yes, 9\n</think>\n9"
    assert policy.seen == [
        "",
        "<think>7 or 8? Wait",
        "<think>7 or 8? Wait no, 9 Wait",
        "<think>7 or 8? Wait no, 9 Wait yes, 9\n</think>\n",
    ]
    assert found["finish_reason"] == "stop" and len(found["logprobs"]) == len(found["completion_ids"])


def test_what_was_put_in_has_log_probability_zero_and_what_was_drawn_keeps_its_own() -> None:
    found, _ = think(Thinking(waits=1), "<think>a</think>", " b</think>", "c$")
    letters = "".join(map(chr, found["completion_ids"]))
    put_in = [letter for letter, logprob in zip(letters, found["logprobs"], strict=True) if logprob == 0.0]
    assert "".join(put_in) == " Wait\n</think>\n"


def test_thinking_is_closed_at_the_budget_and_the_answer_has_its_own_room() -> None:
    found, policy = think(
        Thinking(tokens=10), "<think>aaaaaaaaaaaa", "b$", sampling=Sampling(max_new_tokens=50, seed=3)
    )
    assert found["text"] == "<think>aaa\n</think>\nb"
    assert [asked.max_new_tokens for asked in policy.asked] == [10, 50]
    assert "</think>" in policy.asked[0].stop and "</think>" not in policy.asked[1].stop
    assert policy.asked[0].seed == 3 and policy.asked[1].seed not in (None, 3)


def test_no_wait_is_put_in_when_the_budget_is_used_up() -> None:
    found, policy = think(Thinking(tokens=16, waits=5), "<think>a</think>", "b$")
    # the section and its end are 16 tokens, so nothing may follow
    assert found["text"] == "<think>a\n</think>\nb"
    assert len(policy.seen) == 2


def test_a_model_that_answers_without_a_section_is_left_alone() -> None:
    found, policy = think(Thinking(waits=2), "just 9$")
    assert (found["text"], len(policy.seen)) == ("just 9", 1)


def test_the_callers_own_stop_ends_the_turn() -> None:
    found, _ = think(Thinking(waits=2), "<think>a;b</think>", sampling=Sampling(stop=(";",)))
    assert (found["text"], found["stop_text"]) == ("<think>a", ";")


def test_without_sections_the_end_of_the_answer_is_what_wait_replaces() -> None:
    found, policy = think(Thinking(waits=1, end=""), "it is 7$", ", it is 8$")
    assert found["text"] == "it is 7 Wait, it is 8"
    assert policy.seen == ["", "it is 7 Wait"]


def test_an_answer_that_is_reopened_has_no_end() -> None:
    policy = ThinkingPolicy(ScriptedThinker("7$"), Thinking(waits=1))
    answer = asyncio.run(policy.policy.generate(ASKED, GREEDY))
    assert "".join(map(chr, policy.reopened(answer)["completion_ids"])) == "7"
    assert "".join(map(chr, policy.reopened(answer, waiting=True)["completion_ids"])) == "7 Wait"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab ", max_size=12), min_size=1, max_size=4),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 60)),
)
def test_ids_text_and_log_probabilities_always_agree(parts: list[str], waits: int, tokens: int | None) -> None:
    if waits == 0 and tokens is None:
        return
    said = [f"{'<think>' if number == 0 else ''}{part}</think>" for number, part in enumerate(parts * 5)]
    found, _ = think(Thinking(tokens=tokens, waits=waits), *said)
    assert len(found["logprobs"]) == len(found["completion_ids"])
    letters = "".join(map(chr, found["completion_ids"]))
    assert letters.startswith(found["text"])
    assert letters.count("Wait") <= waits
    thought = letters.partition("\n</think>\n")[0]
    assert "</think>" not in thought
    if tokens is not None:
        assert len(thought) <= tokens + len(" Wait") + 1  # a wait that begins below the budget is put in whole


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "steers nothing"),
        ({"tokens": 0}, "tokens must be 1 or more"),
        ({"waits": -1}, "waits 0 or more"),
        ({"waits": 1, "wait": " "}, "wait is empty"),
        ({"opens": True, "end": ""}, "give begin and end"),
    ],
)
def test_thinking_that_is_none_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Thinking(**wrong)


def test_a_policy_that_cannot_go_on_with_an_answer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="it needs a model in this process, and ScriptedPolicy cannot"):
        ThinkingPolicy(ScriptedPolicy(["7"]), Thinking(waits=1))


# A real model. It knows no sections, and "again :" is its word for Wait.


@pytest.fixture(scope="module")
def embedded() -> TransformersPolicy:
    return TransformersPolicy.from_pretrained(embedded_folder(), max_new_tokens=24)


def test_the_embedded_policy_waits_in_its_own_words(embedded: TransformersPolicy) -> None:
    asked = [Message(role="user", content="6 9 22 24 get 13 :")]
    plain = asyncio.run(embedded.generate(asked, GREEDY))
    forced = asyncio.run(ThinkingPolicy(embedded, Thinking(waits=1, wait="again :", end="")).generate(asked, GREEDY))
    assert forced["text"].startswith(f"{plain['text']} again : ")
    again = forced["text"].split(" again : ")[1].split()
    assert again[3] == "=" and {"right", "wrong"} & set(again)  # it looks at the last step, and says a word
    assert forced["completion_ids"][: len(plain["completion_ids"]) - 1] == plain["completion_ids"][:-1]
    assert embedded.tokenizer.decode(forced["completion_ids"][:-1]) == forced["text"]


def test_words_that_the_model_cannot_read_are_told(embedded: TransformersPolicy) -> None:
    with pytest.raises(ConfigurationError, match="cannot read 'Wait'"):
        ThinkingPolicy(embedded, Thinking(waits=1, end=""))
    with pytest.raises(ConfigurationError, match="cannot read '</think>'"):
        ThinkingPolicy(embedded, Thinking(tokens=5))


def test_a_section_that_the_template_does_not_open_is_opened(embedded: TransformersPolicy) -> None:
    """With words of its own: the thinking is what follows "hint"."""
    thinking = Thinking(tokens=4, begin="hint", end=":", opens=True)
    asked = [Message(role="user", content="6 9 22 24 get 13")]
    found = asyncio.run(ThinkingPolicy(embedded, thinking).generate(asked, GREEDY))
    assert found["text"].startswith("hint") and " : " in found["text"]
    shown = embedded.tokenizer.decode(found["prompt_ids"])
    assert shown.startswith("6 9 22 24 get 13") and "hint" not in shown


# The blind spot.


class MendsWhatOthersSay(ScriptedThinker):
    """Is wrong about every problem but "easy"; mends every error of a user's, and of its own those about "b" and "c"
    when it waits, and that about "c" by itself."""

    def __init__(self) -> None:
        super().__init__()

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        shown = messages[-1]["content"]
        self.parts = ["right$" if "easy" in shown or "no way" in shown else "no way$"]
        return await super().generate(messages, sampling, after=after)

    async def extend(self, partial: Generation, sampling: Sampling) -> Generation:
        name, written = partial["messages"][-1]["content"], self.tokenizer.decode(partial["completion_ids"])
        if written:
            mends = "ask c" in name or ("ask b" in name and written.endswith(" Wait"))
            self.parts = [": right$" if mends else "$"]
        return await super().extend(partial, sampling)


class ReadsRight:
    def check_sync(self, response: str, reference: Any) -> Verdict:
        return Verdict(Status.CORRECT if response.endswith("right") else Status.WRONG)

    async def check(self, response: str, reference: Any) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        return None


def test_the_blind_spot_by_hand() -> None:
    problems = [problem(f"ask {name}", id=name) for name in ("a", "b", "c", "d", "easy")]
    found = blind_spot(ThinkingPolicy(MendsWhatOthersSay(), Thinking(waits=1)), problems, ReadsRight(), PLAIN)
    assert (found.n, found.own, found.forced, found.user) == (4, 0.25, 0.5, 1.0)
    assert (found.blind_spot, found.blind_spot_forced) == (0.75, 0.5)
    assert found.own_ci95 == pytest.approx((0.0456, 0.6994), abs=1e-4)  # Wilson's of 1 of 4


def test_without_wrong_answers_there_is_no_blind_spot_to_measure() -> None:
    with pytest.raises(TaskError, match="no drawn answer is wrong"):
        blind_spot(
            ThinkingPolicy(MendsWhatOthersSay(), Thinking(waits=1)), [problem("easy", id="1")], ReadsRight(), PLAIN
        )


def test_the_blind_spot_of_a_real_model(embedded: TransformersPolicy) -> None:
    task = CountdownTask(4)
    policy = ThinkingPolicy(embedded, Thinking(waits=1, wait="again :", end=""))
    found = blind_spot(policy, task.problems("test", 40, seed=0), task.checker, COUNTDOWN)
    assert 10 <= found.n <= 40
    assert found.own == 0.0  # it ends where it ended: its own errors it never mends unasked
    assert found.user > 0.0 and found.blind_spot == 1.0
    again = blind_spot(policy, task.problems("test", 40, seed=0), task.checker, COUNTDOWN)
    assert again.as_dict() == found.as_dict()
