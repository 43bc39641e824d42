"""The transformers policy: limits, stops, batching, changing weights, and what it refuses."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import WORDS, gpt2, llama, problems, roles, word_tokenizer
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies import transformers as transformers_policy
from selfcorrect.agents.policies.local_calls import eos_ids
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import GREEDY, Policy, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.recording import recording
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError

PROMPT = "3 5 7 get 8 :"


@pytest.fixture
def policy(tokenizer: PreTrainedTokenizerFast) -> TransformersPolicy:
    return TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=12)


def ask(policy: Policy, text: str = PROMPT, sampling: Sampling = GREEDY, after: Generation | None = None) -> Generation:
    return asyncio.run(policy.generate([Message(role="user", content=text)], sampling, after=after))


def ask_all(policy: Policy, samplings: Sequence[Sampling], text: str = PROMPT) -> list[Generation]:
    async def crowd() -> list[Generation]:
        message = Message(role="user", content=text)
        return await asyncio.gather(*(policy.generate([message], sampling) for sampling in samplings))

    return asyncio.run(crowd())


def texts_of(generations: Sequence[Generation]) -> list[str]:
    return [generation["text"] for generation in generations]


def widths_read(policy: TransformersPolicy) -> list[tuple[int, int]]:
    """The shape of everything that the model reads from now on."""
    shapes: list[tuple[int, int]] = []
    policy.model.register_forward_pre_hook(
        lambda module, args, arguments: shapes.append(tuple(arguments["input_ids"].shape)), with_kwargs=True
    )
    return shapes


def likes(policy: TransformersPolicy, word: str) -> None:
    """Change the weights so that the model always says `word`."""
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
        policy.model.lm_head.weight[policy.tokenizer.convert_tokens_to_ids(word)] = 50 * torch.sign(
            policy.model.model.norm.weight
        )
        policy.model.model.norm.weight.zero_()
    policy.model.model.norm.register_forward_hook(lambda module, args, output: torch.ones_like(output))


def test_a_completion_ends_with_the_stop_token_and_its_text_without(policy: TransformersPolicy) -> None:
    likes(policy, "<eos>")
    generation = ask(policy)
    assert (generation["completion_ids"], generation["text"]) == ([policy.tokenizer.eos_token_id], "")
    assert generation["finish_reason"] == "stop"


def test_a_completion_without_stop_token_is_cut_at_its_limit(policy: TransformersPolicy) -> None:
    likes(policy, "7")
    generations = ask_all(policy, [Sampling(max_new_tokens=limit) for limit in (1, 5, 3)] + [GREEDY])
    assert [len(generation["completion_ids"]) for generation in generations] == [1, 5, 3, 12]
    assert {generation["finish_reason"] for generation in generations} == {"length"}


def test_after_a_cut_completion_the_next_prompt_ends_the_turn_itself(policy: TransformersPolicy) -> None:
    likes(policy, "7")
    first = ask(policy, sampling=Sampling(max_new_tokens=2))
    second = ask(policy, "again :", after=first)
    assert policy.tokenizer.decode(second["prompt_ids"]) == PROMPT + " 7 7 <eos> again :"


def test_stop_texts_end_a_completion_and_are_left_out_of_its_text(policy: TransformersPolicy) -> None:
    likes(policy, "7")
    stopped, free = ask_all(policy, [Sampling(stop=("7 7 7", "9")), GREEDY])
    assert (stopped["text"], len(stopped["completion_ids"]), stopped["finish_reason"]) == ("", 3, "stop")
    assert len(free["completion_ids"]) == 12


def test_all_stop_tokens_of_the_generation_config_count(tokenizer: PreTrainedTokenizerFast) -> None:
    model = llama(len(tokenizer))
    model.generation_config.eos_token_id = [7, 9]
    assert eos_ids(model, tokenizer) == [tokenizer.eos_token_id, 7, 9]


def test_rows_that_end_early_leave_the_batch(policy: TransformersPolicy) -> None:
    likes(policy, "7")
    shapes = widths_read(policy)
    ask_all(policy, [Sampling(max_new_tokens=limit) for limit in [2] * 6 + [8] * 2])
    assert [rows for rows, _ in shapes] == [1, 8, *[2] * 6]  # one shared prompt, eight rows once, then the last two


def test_equal_prompts_are_read_once(policy: TransformersPolicy) -> None:
    shapes = widths_read(policy)
    play_sync(build_graph(policy, prompts=COUNTDOWN, revisions=0), problems([PROMPT, "3 5 get 8 :"] * 4))
    assert shapes[0] == (2, 6)


def test_a_flush_larger_than_max_batch_is_decoded_in_parts(tokenizer: PreTrainedTokenizerFast) -> None:
    small = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=4, max_batch=3)
    shapes = widths_read(small)
    generations = ask_all(small, [Sampling(seed=seed) for seed in range(8)])
    assert max(rows for rows, _ in shapes) == 3
    whole = TransformersPolicy(small.model, tokenizer, max_new_tokens=4)
    undivided = ask_all(whole, [Sampling(seed=seed) for seed in range(8)])
    assert texts_of(generations) == texts_of(undivided)


def test_a_long_prompt_is_not_what_the_short_ones_are_padded_to(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=4, decoding="dynamic")
    likes(policy, "7")
    short, long = PROMPT, " ".join([PROMPT] * 3)
    asked = problems([short] * 3 + [long] + [short + " 7"] * 3)
    shapes = widths_read(policy)
    together = play_sync(build_graph(policy, prompts=COUNTDOWN, revisions=0), asked, sampling=GREEDY)
    ids = [len(state["turns"][0]["generation"]["prompt_ids"]) for state in together]
    assert ids[3] + 4 > 2 * (ids[0] + 4) > ids[6] + 4
    assert sorted({rows for rows, _ in shapes}) == [1, 2, 6]  # two prompts of six rows are read, and the long one
    for state, problem in zip(together, asked, strict=True):
        (alone,) = play_sync(build_graph(policy, prompts=COUNTDOWN, revisions=0), [problem], sampling=GREEDY)
        assert alone["turns"][0]["generation"]["completion_ids"] == state["turns"][0]["generation"]["completion_ids"]


def test_no_more_rows_are_decoded_at_once_than_their_caches_have_room(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_policy, "_COLUMNS_AT_ONCE", 3 * (6 + 4))
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=4, decoding="dynamic")
    shapes = widths_read(policy)
    generations = ask_all(policy, [Sampling(seed=seed) for seed in range(7)])
    assert len(generations[0]["prompt_ids"]) == 6
    assert max(rows for rows, _ in shapes) == 3
    ask(policy, " ".join([PROMPT] * 9))  # alone, however long


def test_no_seed_draws_afresh(policy: TransformersPolicy) -> None:
    generations = ask_all(policy, [Sampling()] * 10)
    assert len({tuple(generation["completion_ids"]) for generation in generations}) > 5


@pytest.mark.parametrize("training", [True, False])
def test_the_models_training_mode_is_restored(policy: TransformersPolicy, training: bool) -> None:
    policy.model.train(training)
    policy.model.model.layers[0].eval()
    ask(policy)
    assert policy.model.training is training
    assert policy.model.model.layers[0].training is False
    assert policy.model.model.layers[1].training is training


def in_place(parameter: torch.nn.Parameter) -> None:
    with torch.no_grad():
        parameter.mul_(1.5)


def through_data(parameter: torch.nn.Parameter) -> None:
    parameter.data = parameter.data * 1.5


def in_place_through_data(parameter: torch.nn.Parameter) -> None:
    parameter.data.mul_(1.5)


@pytest.mark.parametrize("change", [in_place, through_data, in_place_through_data])
def test_changed_weights_never_meet_an_old_cache(
    policy: TransformersPolicy, change: Callable[[torch.nn.Parameter], None]
) -> None:
    first = ask(policy, sampling=Sampling(seed=1))
    change(policy.model.model.layers[0].self_attn.k_proj.weight)
    shapes = widths_read(policy)
    second = ask(policy, "again :", after=first)
    assert shapes[0] == (1, len(second["prompt_ids"]))
    fresh = TransformersPolicy(policy.model, policy.tokenizer, max_new_tokens=12, reuse_cache=False)
    assert second["logprobs"] == pytest.approx(ask(fresh, "again :", after=first)["logprobs"], abs=1e-5)


def test_a_forgotten_cache_is_not_needed(policy: TransformersPolicy) -> None:
    first = ask(policy)
    remembered = ask(policy, "again :", after=first)
    policy.forget()
    assert ask(policy, "again :", after=first)["text"] == remembered["text"]


def test_caches_beyond_the_limit_are_not_kept(policy: TransformersPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfcorrect.agents.policies.transformers.free_bytes", lambda device: 4000)
    first = ask(policy)
    shapes = widths_read(policy)
    second = ask(policy, "again :", after=first)
    assert shapes[0] == (1, len(second["prompt_ids"]))


def test_calls_of_a_graph_are_recorded_with_their_nodes(policy: TransformersPolicy) -> None:
    with recording() as recorder:
        state = play_sync(build_graph(policy, prompts=COUNTDOWN, critique="self", revisions=2), problems([PROMPT]))[0]
    assert [call.node for call in recorder.calls] == roles(state)
    assert [call.generation for call in recorder.calls] == [turn["generation"] for turn in state["turns"]]


def test_the_conversation_is_recorded_as_messages(policy: TransformersPolicy) -> None:
    first = ask(policy)
    second = ask(policy, "again :", after=first)
    assert [(message["role"], message["content"]) for message in second["messages"]] == [
        ("user", PROMPT), ("assistant", first["text"]), ("user", "again :"),
    ]  # fmt: skip


def test_a_batch_in_a_thread_gives_the_same(policy: TransformersPolicy) -> None:
    threaded = TransformersPolicy(policy.model, policy.tokenizer, max_new_tokens=12, in_thread=True)
    samplings = [Sampling(seed=seed) for seed in range(5)]
    assert texts_of(ask_all(threaded, samplings)) == texts_of(ask_all(policy, samplings))


def test_adapters_of_peft_are_part_of_the_policy(policy: TransformersPolicy) -> None:
    from peft import LoraConfig, get_peft_model

    before = ask(policy)
    adapted = get_peft_model(policy.model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    wrapped = TransformersPolicy(adapted, policy.tokenizer, max_new_tokens=12)
    assert ask(wrapped)["logprobs"] == pytest.approx(before["logprobs"], abs=1e-5)
    with torch.no_grad():
        adapted.base_model.model.model.layers[0].self_attn.q_proj.lora_B["default"].weight.fill_(1.0)
    assert ask(wrapped)["logprobs"] != pytest.approx(before["logprobs"], abs=1e-3)


def test_a_saved_model_loads_and_says_the_same(policy: TransformersPolicy, tmp_path: Path) -> None:
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    loaded = TransformersPolicy.from_pretrained(tmp_path, max_new_tokens=12)
    assert ask(loaded) == ask(policy)
    assert loaded.model.training is False


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", Path("nowhere")])
def test_a_missing_folder_is_refused_without_asking_the_network(name: str | Path) -> None:
    with pytest.raises(PolicyError, match="no model folder .*nowhere"):
        TransformersPolicy.from_pretrained(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no config\.json"):
        TransformersPolicy.from_pretrained(tmp_path)


def test_a_folder_with_a_broken_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(PolicyError, match="cannot load model and tokenizer"):
        TransformersPolicy.from_pretrained(tmp_path)


def test_a_tokenizer_without_pad_token_serves() -> None:
    padless = word_tokenizer(WORDS)
    assert padless.pad_token is None
    policy = TransformersPolicy(gpt2(len(padless)), padless, max_new_tokens=5)
    states = play_sync(build_graph(policy, prompts=COUNTDOWN), problems(["3", "3 5 7 get 8 :"]))
    assert all(len(state["turns"]) == 2 for state in states)


def test_a_prompt_beyond_the_context_is_refused_with_its_length(tokenizer: PreTrainedTokenizerFast) -> None:
    policy = TransformersPolicy(llama(len(tokenizer), positions=8), tokenizer)
    assert len(ask(policy)["completion_ids"]) == 2  # six ids of prompt, two left
    with pytest.raises(PolicyError, match="problem 'p1': the prompt has 9 token ids, .* context holds 8"):
        play_sync(build_graph(policy, prompts=COUNTDOWN, revisions=0), problems(["3", "1 2 3 4 5 6 7 8 9"]))


def test_words_unknown_to_the_tokenizer_are_named(policy: TransformersPolicy) -> None:
    with pytest.raises(PolicyError, match="does not know 'seven'"):
        ask(policy, "3 5 seven get 8 :")


def test_an_empty_prompt_is_refused(policy: TransformersPolicy) -> None:
    with pytest.raises(PolicyError, match="no tokens"):
        ask(policy, "")


def test_one_bad_prompt_does_not_harm_the_others_of_its_batch(policy: TransformersPolicy) -> None:
    async def crowd() -> list[Any]:
        texts = [PROMPT, "3 5 seven", PROMPT]
        calls = (policy.generate([Message(role="user", content=text)], GREEDY) for text in texts)
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(crowd())
    assert isinstance(second, PolicyError)
    assert first["completion_ids"] == third["completion_ids"] == ask(policy)["completion_ids"]
