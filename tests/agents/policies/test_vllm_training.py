"""Policies that learn here and are played by a vLLM server: what it is asked, and which weights answer."""

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_vllm import FakeVLLM
from peft import LoraConfig, get_peft_model
from small_models import WORDS, llama, problem, word_tokenizer
from transformers import PreTrainedTokenizerFast

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policies.vllm_training import VLLMServedPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError, UnreadablePromptError

ASK = [Message(role="user", content="3 5 get 8 :")]
CARDS = [{"id": "small", "max_model_len": 60}]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(WORDS, pad_token="<pad>")


def fake(tokenizer: Any, *takes: str, off_by: float = 0.0, model: Any = None) -> FakeVLLM:
    return FakeVLLM(model or llama(len(tokenizer)), tokenizer, CARDS, takes=takes, off_by=off_by)


def played_by(server: FakeVLLM, tokenizer: Any, model: Any = None, **options: Any) -> VLLMServedPolicy:
    asked = VLLMServer("http://server/v1", transport=server)
    return VLLMServedPolicy(
        model or copy.deepcopy(server.model), tokenizer, server=asked, max_new_tokens=6, concurrency=4, **options
    )


def with_adapter(model: Any) -> Any:
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear"))
    nudge(adapted)
    return adapted.eval()


def nudge(model: Any, by: float = 0.5) -> None:
    """Other weights, as an update makes them: in place, adapters only if there are some."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn_like(parameter))


def ask(policy: Any, sampling: Sampling = GREEDY, after: Generation | None = None) -> Generation:
    return asyncio.run(policy.generate(ASK, sampling, after=after))


def of_the_model(policy: VLLMServedPolicy) -> Generation:
    """What the model that learns says itself."""
    return ask(TransformersPolicy(policy.model, policy.tokenizer, max_new_tokens=6))


def same(one: Generation, other: Generation) -> bool:
    return one["completion_ids"] == other["completion_ids"] and one["logprobs"] == pytest.approx(
        other["logprobs"], abs=1e-4
    )


def test_episodes_are_token_for_token_those_of_the_same_model_in_process(tokenizer: Any) -> None:
    there = played_by(fake(tokenizer), tokenizer, adapters=True)
    here = TransformersPolicy(there.model, tokenizer, max_new_tokens=6)
    mine, theirs = (
        play_sync(build_graph(policy, prompts=COUNTDOWN), [problem("3 5 get 8")], sampling=GREEDY, seed=1)[0]
        for policy in (here, there)
    )
    assert len(mine["turns"]) == 2
    for one, other in zip(mine["turns"], theirs["turns"], strict=True):
        assert one["generation"]["prompt_ids"] == other["generation"]["prompt_ids"]
        assert one["generation"]["text"] == other["generation"]["text"]
        assert same(one["generation"], other["generation"])


def test_an_adapter_goes_over_after_every_change_under_a_name_of_its_own(tokenizer: Any) -> None:
    server = fake(tokenizer, "adapters")
    policy = played_by(server, tokenizer, with_adapter(copy.deepcopy(server.model)), adapters=True)
    names = []
    for _ in range(3):
        assert same(ask(policy), of_the_model(policy))
        names.append(server.asked[-1]["model"])
        nudge(policy.model)
    assert len(set(names)) == 3 and [name.rpartition("-")[2] for name in names] == ["1", "2", "3"]
    assert list(server.adapters) == names[1:], "the one before stays, older ones go"


def test_the_same_weights_go_over_once(tokenizer: Any) -> None:
    server = fake(tokenizer, "adapters")
    policy = played_by(server, tokenizer, with_adapter(copy.deepcopy(server.model)), adapters=True)
    play_sync(build_graph(policy, prompts=COUNTDOWN), [problem("3 5 get 8")] * 3, sampling=GREEDY, seed=1)
    assert server.told.count("/v1/load_lora_adapter") == 1 and len(server.asked) == 6


def test_stale_weights_cannot_answer(tokenizer: Any) -> None:
    """A server that lost the adapter refuses, rather than answer by the base."""
    server = fake(tokenizer, "adapters")
    policy = played_by(server, tokenizer, with_adapter(copy.deepcopy(server.model)), adapters=True)
    ask(policy)
    server.adapters.clear()
    with pytest.raises(PolicyError, match="does not exist"):
        ask(policy)


def test_all_weights_go_over_after_every_change(tokenizer: Any) -> None:
    server = fake(tokenizer, "weights")
    policy = played_by(server, tokenizer)
    for count in (1, 2, 3):
        nudge(policy.model, 0.1)
        assert same(ask(policy), of_the_model(policy))
        assert server.told.count("/collective_rpc") == server.told.count("/reset_prefix_cache") == count
        ask(policy)


def test_a_server_that_kept_its_weights_is_found_out(tokenizer: Any) -> None:
    """As vLLM on a CPU does with a head that is tied to the embeddings, and says 200."""
    server = fake(tokenizer, "weights")
    server._places["/collective_rpc"] = server._places["/reset_prefix_cache"]
    policy = played_by(server, tokenizer)
    nudge(policy.model)
    with pytest.raises(PolicyError, match="has other weights than the model that is trained: .* differ by"):
        ask(policy)


def test_a_server_of_another_base_is_found_out_before_an_adapter_is_trained(tokenizer: Any) -> None:
    server = fake(tokenizer, "adapters")
    other = copy.deepcopy(server.model)
    nudge(other)
    with pytest.raises(PolicyError, match="Start it with the very model of policy.model"):
        ask(played_by(server, tokenizer, other, adapters=True))


@pytest.mark.parametrize(
    ("adapters", "told"), [(True, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True .*--enable-lora"), (False, "DEV_MODE=1")]
)
def test_a_server_that_takes_no_weights_is_told_how_it_is_started(tokenizer: Any, adapters: bool, told: str) -> None:
    server = fake(tokenizer)
    model = with_adapter(copy.deepcopy(server.model)) if adapters else None
    with pytest.raises(PolicyError, match=rf"refused the request \(404\).*{told}"):
        ask(played_by(server, tokenizer, model, adapters=adapters))


def test_what_is_pinned_is_answered_by_the_weights_of_then(tokenizer: Any) -> None:
    server = fake(tokenizer, "adapters")
    policy = played_by(server, tokenizer, with_adapter(copy.deepcopy(server.model)), adapters=True)
    then = of_the_model(policy)
    with policy.pinned():
        nudge(policy.model)
        assert same(ask(policy), then)
    assert same(ask(policy), of_the_model(policy)) and not same(ask(policy), then)


def test_settled_weights_stay_whatever_becomes_of_the_model(tokenizer: Any) -> None:
    server = fake(tokenizer, "adapters")
    policy = played_by(server, tokenizer, with_adapter(copy.deepcopy(server.model)), adapters=True)
    then = of_the_model(policy)
    policy.settle()
    policy.model.merge_and_unload()
    assert same(ask(policy), then)


def test_files_of_weights_do_not_pile_up(tokenizer: Any, tmp_path: Path) -> None:
    server = fake(tokenizer, "adapters")
    policy = played_by(server, tokenizer, with_adapter(copy.deepcopy(server.model)), adapters=True, folder=tmp_path)
    for _ in range(4):
        nudge(policy.model)
        ask(policy)
    assert sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir()) == ["3", "4"]


def test_draws_differ_by_their_seeds_and_only_by_them(tokenizer: Any) -> None:
    policy = played_by(fake(tokenizer), tokenizer, adapters=True)
    drawn = [ask(policy, Sampling(seed=seed))["completion_ids"] for seed in (1, 2, 1, 3)]
    assert drawn[0] == drawn[2] and len({tuple(ids) for ids in drawn}) == 3


def test_a_prompt_beyond_the_servers_context_is_refused(tokenizer: Any) -> None:
    server = fake(tokenizer)
    server.cards = [{"id": "small", "max_model_len": 5}]
    with pytest.raises(UnreadablePromptError, match="holds 5"):
        ask(played_by(server, tokenizer, adapters=True, max_batch=3))


def test_an_engine_of_another_process_draws_without_replacement_here(tokenizer: Any) -> None:
    server = fake(tokenizer)
    policy = played_by(server, tokenizer, adapters=True)
    first = ask(policy, Sampling(seed=1, max_new_tokens=1))
    asked = len(server.asked)
    other = asyncio.run(policy.generate_new(ASK, Sampling(seed=1, max_new_tokens=1), drawn=[first]))
    assert other is not None and other["completion_ids"] != first["completion_ids"]
    assert len(server.asked) == asked
