"""Traces of a training run: what LangChain's tracers and OpenTelemetry are told of calls, rewards and advantages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tracers.base import BaseTracer
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scripted_chat_model import ScriptedChatModel
from word_game import config, graph_of, likes_plus, policy_from, problems, question

from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.agents.plugins.chat_model_policy import ChatModelPolicy
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.training.own_graph import train


class Kept(BaseTracer):
    """Keeps the metadata of every run, by the run's name."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[tuple[str, dict[str, Any]]] = []

    def _persist_run(self, run: Any) -> None:
        self._keep(run)

    def _keep(self, run: Any) -> None:
        self.runs.append((run.name, dict(run.metadata)))
        for child in run.child_runs:
            self._keep(child)

    def of(self, name: str) -> list[dict[str, Any]]:
        return [metadata for run, metadata in self.runs if run == name]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def trained(folder: Path, out: Path, **options: Any) -> list[list[PolicyCall]]:
    policy, seen = policy_from(folder), []

    def paid(state: Any, calls: list[PolicyCall]) -> list[float | None]:
        seen.append(calls)
        return likes_plus(state, calls)

    train(
        graph_of(policy), problems(2), policy=policy, reward_fn=paid, inputs=question, kl=0.0,
        config=config(out, steps=2, problems_per_step=2, episodes_per_problem=2), rules=EpisodeRules(config=options),
    )  # fmt: skip
    return seen


def test_langchains_tracers_are_told_problem_batch_turn_reward_and_advantage(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    tracer = Kept()
    episodes = trained(tiny_model_folder, tmp_path, callbacks=[tracer])
    nodes = tracer.of("write")
    assert {(node["problem"], node["batch"]) for node in nodes} == {(p, b) for p in ("p1", "p2") for b in (0, 1)}
    assert len({node["episode"] for node in nodes}) == 8
    credits = tracer.of("credit")
    assert len(credits) == sum(map(len, episodes)) == 24
    assert {(credit["node"], credit["turn"]) for credit in credits} == {("write", 1), ("check", 2), ("rewrite", 3)}
    for node in ("write", "check", "rewrite"):
        for batch in (0, 1):
            pairs = [credit for credit in credits if (credit["node"], credit["batch"]) == (node, batch)]
            for name in ("p1", "p2"):
                one, other = [credit for credit in pairs if credit["problem"] == name]
                assert one["reward"] in (0.0, 1.0)
                # leave-one-out over two episodes, by hand: each against the other
                assert one["advantage"] == pytest.approx(one["reward"] - other["reward"])


def test_opentelemetry_is_told_every_call_by_the_conventions_and_later_its_credit(
    tiny_model_folder: Path, tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    calls = [call for episode in trained(tiny_model_folder, tmp_path) for call in episode]
    told: list[ReadableSpan] = list(spans.get_finished_spans())
    chats = [span for span in told if span.name.startswith("chat ")]
    assert len(chats) == len(calls) == 24
    attributes = [dict(span.attributes or {}) for span in chats]
    assert {one["gen_ai.operation.name"] for one in attributes} == {"chat"}
    assert {span.name for span in chats} == {f"chat {one['gen_ai.request.model']}" for one in attributes}
    read = sorted((one["gen_ai.usage.input_tokens"], one["gen_ai.usage.output_tokens"]) for one in attributes)
    ids = [(call.generation["prompt_ids"], call.generation["completion_ids"]) for call in calls]
    assert read == sorted((len(prompt), len(completion)) for prompt, completion in ids)
    assert {one["gen_ai.request.temperature"] for one in attributes} == {1.0}
    assert {one["selfcorrect.batch"] for one in attributes} == {0, 1}
    assert all(span.start_time is not None and span.end_time is not None for span in chats)
    credits = [span for span in told if span.name == "credit"]
    by_id = {span.context.span_id: dict(span.attributes or {}) for span in chats if span.context}
    assert len(credits) == 24
    for credit in credits:
        (link,) = credit.links
        call, paid = by_id.pop(link.context.span_id), dict(credit.attributes or {})
        for name in ("problem", "batch", "node"):
            assert call[f"selfcorrect.{name}"] == paid[f"selfcorrect.{name}"]
        assert {"selfcorrect.reward", "selfcorrect.advantage", "selfcorrect.turn"} <= set(paid)
    assert not by_id


def test_calls_of_chat_models_of_others_have_spans_too(spans: InMemorySpanExporter) -> None:
    play_sync(build_graph(ChatModelPolicy(ScriptedChatModel(script=lambda messages, tools: "eight"))), problems(1))
    told = [dict(span.attributes or {}) for span in spans.get_finished_spans() if span.name.startswith("chat ")]
    assert [span["selfcorrect.node"] for span in told] == ["attempt", "revise"]
    assert {(span["gen_ai.usage.input_tokens"], span["gen_ai.usage.output_tokens"]) for span in told} == {(10, 5)}


@pytest.mark.parametrize("imported", ["", pytest.param("import opentelemetry.trace\n", marks=pytest.mark.slow)])
def test_without_a_tracer_provider_nothing_is_told(imported: str) -> None:
    code = (
        f"{imported}from selfcorrect.agents.tracing import begin_span, is_traced\n"
        "from selfcorrect.agents.policy import Sampling\n"
        "assert begin_span(object(), Sampling()) is None and not is_traced(None)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
