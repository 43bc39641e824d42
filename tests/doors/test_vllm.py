"""Training with the real vLLM, on a server and in this process: see .ci/vllm, which makes an environment with vLLM for
CPUs and runs this."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from local_server import free_port, running, script
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policies.vllm_server import VLLMServer
from selfcorrect.agents.policies.vllm_training import VLLMServedPolicy
from selfcorrect.agents.policy import GREEDY, Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.arms.reinforced import train_score
from selfcorrect.training.settings import RunSettings

pytest.importorskip("vllm", reason="vLLM is not installed; see .ci/vllm")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NAME = "policy-under-test"
WORDS = [COUNTDOWN.attempt.replace("{problem}", p.prompt) for p in CountdownTask(4).problems("test", 8, seed=3)]
DRAWS = 400


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 with the embedded policy's tokenizer, whose head is not tied to its embeddings."""
    folder = tmp_path_factory.mktemp("untied")
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=216, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=False, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, initializer_range=0.2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def serving(model: Path, folder: Path, *more: str) -> Any:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        script("vllm"), "serve", str(model), "--served-model-name", NAME, "--dtype", "float32", "--enforce-eager",
        "--host", "127.0.0.1", "--port", str(port), "--max-num-seqs", "32", *more,
    ]  # fmt: skip
    environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_SERVER_DEV_MODE": "1"}
    return address, running(command, f"{address}/health", folder=folder, environment=environment, patience=900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded policy, on a server that takes adapters."""
    address, started = serving(
        embedded_folder(), tmp_path_factory.mktemp("server"), "--enable-lora", "--max-lora-rank", "8"
    )
    with started:
        yield f"{address}/v1"


def served(url: str, **options: Any) -> VLLMServedPolicy:
    found = VLLMServedPolicy.from_pretrained(
        embedded_folder(), server=VLLMServer(url), device="cpu", max_new_tokens=24, concurrency=16, **options
    )
    assert isinstance(found, VLLMServedPolicy)
    return found


def beside(policy: TransformersPolicy) -> TransformersPolicy:
    """The model that learns, decoded by transformers."""
    return TransformersPolicy(policy.model, policy.tokenizer, max_new_tokens=24)


def answers(policy: Any, prompts: Sequence[str], samplings: Sequence[Sampling]) -> list[Generation]:
    async def all_of_them() -> list[Generation]:
        calls = zip(prompts, samplings, strict=True)
        return await asyncio.gather(*(policy.generate([Message(role="user", content=p)], how) for p, how in calls))

    return asyncio.run(all_of_them())


def agree(policy: TransformersPolicy) -> None:
    """Greedy answers and their log-probabilities are those of the model, as it is now."""
    greedy = [GREEDY] * len(WORDS)
    for theirs, mine in zip(answers(policy, WORDS, greedy), answers(beside(policy), WORDS, greedy), strict=True):
        assert theirs["completion_ids"] == mine["completion_ids"] and theirs["text"] == mine["text"]
        assert theirs["logprobs"] == pytest.approx(mine["logprobs"], abs=1e-3)


def adapted(policy: TransformersPolicy) -> None:
    torch.manual_seed(1)
    policy.model = get_peft_model(
        policy.model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear")
    ).eval()
    nudge(policy.model, 0.1)


def nudge(model: Any, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn_like(parameter))


def same_distribution(policy: TransformersPolicy, extra: int) -> None:
    """First tokens drawn with fixed seeds come as often as the model's own probabilities say."""
    prompt = WORDS[0]
    drawn = answers(policy, [prompt] * DRAWS, [Sampling(seed=extra + n, max_new_tokens=1) for n in range(DRAWS)])
    seen = Counter(one["completion_ids"][0] for one in drawn)
    with torch.no_grad():
        logits = policy.model(torch.tensor([drawn[0]["prompt_ids"]])).logits[0, -1]
    expected = logits.softmax(-1).double() * DRAWS
    often = [token for token in range(len(expected)) if expected[token] >= 5]
    assert len(often) > 1, "a distribution of one value shows nothing"
    rest = max(DRAWS - float(expected[often].sum()), 1e-9)
    counts = [*(seen[token] for token in often), DRAWS - sum(seen[token] for token in often)]
    found = chisquare(counts, [*(float(expected[token]) for token in often), rest], sum_check=False)
    assert found.pvalue > 1e-3, (counts, found)


def test_greedy_answers_of_a_server_are_the_models(server: str) -> None:
    agree(served(server, adapters=True))


def test_sampled_answers_of_a_server_have_the_models_distribution(server: str) -> None:
    same_distribution(served(server, adapters=True), 0)


def test_an_adapter_is_swapped_without_a_restart_and_stale_ones_are_not_answered_by(server: str) -> None:
    policy = served(server, adapters=True)
    adapted(policy)
    for _ in range(3):
        agree(policy)
        before = answers(policy, WORDS[:1], [GREEDY])[0]
        nudge(policy.model, 0.1)
        after = answers(policy, WORDS[:1], [GREEDY])[0]
        assert after["logprobs"] != pytest.approx(before["logprobs"], abs=1e-3), "the same as before the update"
    agree(policy)


def test_other_weights_than_the_servers_are_found_out(server: str) -> None:
    policy = served(server, adapters=True)
    nudge(policy.model, 0.05)
    with pytest.raises(PolicyError, match="has other weights than the model that is trained"):
        answers(policy, WORDS[:1], [GREEDY])


def settings_of(engine: dict[str, Any], **policy: Any) -> RunSettings:
    return RunSettings.model_validate(
        {
            "policy": {"engine": engine, "max_new_tokens": 24, "device": "cpu", **policy},
            "score": {"stage_one_steps": 1, "stage_two_steps": 2},
            "optimiser": {"problems_per_step": 4, "episodes_per_problem": 4, "learning_rate": 1e-3},
            "evaluation": {"problems": 16},
        }
    )


def steps_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_trains_an_adapter_on_a_server(server: str, tmp_path: Path) -> None:
    settings = settings_of({"kind": "vllm", "url": server, "concurrency": 16}, lora={"rank": 4})
    result = train_score(settings, out=tmp_path / "run")
    steps = steps_of(tmp_path / "run")
    assert len(steps) == 3 and all(step["episodes_failed"] == 0 for step in steps)
    assert max(step["mismatch/nats"] for step in steps) < 1e-3, "stale weights would be off by what a step moves"
    merged = TransformersPolicy.from_pretrained(tmp_path / "run" / "model", device="cpu", max_new_tokens=24)
    assert any(
        not torch.equal(trained, base)
        for trained, base in zip(merged.model.parameters(), served(server).model.parameters(), strict=True)
    )
    assert result.after["n"] == 16


def test_all_weights_go_over_to_a_server(untied: Path, tmp_path: Path) -> None:
    address, started = serving(untied, tmp_path)
    with started:
        policy = VLLMServedPolicy.from_pretrained(
            untied, server=VLLMServer(f"{address}/v1"), device="cpu", max_new_tokens=24, concurrency=16
        )
        for _ in range(2):
            nudge(policy.model, 0.02)
            agree(policy)


# In this process: one engine for all, since a process can start only one after the other.


@pytest.fixture(scope="module")
def colocated() -> Any:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from selfcorrect.agents.policies.vllm_colocated import VLLMColocatedPolicy, open_llm

    llm = open_llm(str(embedded_folder()), dtype="float32", lora_rank=None, enforce_eager=True, max_num_seqs=32)
    return VLLMColocatedPolicy.from_pretrained(embedded_folder(), llm=llm, device="cpu", max_new_tokens=24)


def test_an_engine_in_this_process_draws_as_the_model_does(colocated: Any) -> None:
    agree(colocated)
    same_distribution(colocated, 1000)


def test_all_weights_go_over_within_this_process_tied_heads_included(colocated: Any) -> None:
    for _ in range(2):
        nudge(colocated.model, 0.02)
        agree(colocated)


def run_of(out: Path, *settings: str, processes: int = 1) -> list[dict[str, float]]:
    """The steps of a run in processes of its own: vLLM starts once in each."""
    chosen = [
        "policy.device=cpu", "policy.max_new_tokens=24", "score.stage_one_steps=1", "score.stage_two_steps=2",
        "optimiser.problems_per_step=4", "optimiser.episodes_per_problem=4", "evaluation.problems=16", *settings,
    ]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, "-W", "ignore", *(launcher if processes > 1 else []), "-m", "selfcorrect"]
    done = subprocess.run(
        [*command, "train", "score", "--out", str(out), *(part for each in chosen for part in ("--set", each))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    steps = steps_of(out)
    assert len(steps) == 3 and all(step["episodes_failed"] == 0 for step in steps)
    return steps


@pytest.mark.parametrize(("lora", "processes"), [("null", 1), ("{rank: 4}", 1), ("{rank: 4}", 2)])
def test_a_run_trains_with_an_engine_in_each_of_its_processes(tmp_path: Path, lora: str, processes: int) -> None:
    own = "policy.engine.kind=vllm-colocate", "policy.engine.enforce_eager=true", f"policy.lora={lora}"
    steps = run_of(tmp_path / "run", *own, processes=processes)
    assert max(step["mismatch/nats"] for step in steps) < 1e-3, "stale weights would be off by what a step moves"


def test_two_processes_share_a_server_and_play_ahead_of_it(server: str, tmp_path: Path) -> None:
    own = "policy.engine.kind=vllm", f"policy.engine.url={server}", "policy.lora={rank: 4}", "optimiser.play_ahead=true"
    steps = run_of(tmp_path / "run", *own, "optimiser.learning_rate=0.01", processes=2)
    assert steps[0]["mismatch/nats"] < 1e-5, "by its own weights"
    assert max(step["mismatch/nats"] for step in steps[1:]) > 1e-4, "by the weights of one update before"
