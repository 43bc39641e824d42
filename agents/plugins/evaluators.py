"""Graphs and checkers in inspect_ai's evaluations: an agent that plays a graph, a scorer that is a checker, and
problems as samples. What they do is in inspect's logs, and in its viewer."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from selfcorrect.agents.policies.rendering import conversation_after
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import Generation, Message, Usage
from selfcorrect.distribution import install_command
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Checker, Status, judged
from selfcorrect.rewards.checkers import checker_named
from selfcorrect.tasks.problem import Problem

_REFERENCE = "selfcorrect_reference"


def _inspect() -> Any:
    try:
        import inspect_ai
        import inspect_ai.agent
        import inspect_ai.dataset
        import inspect_ai.model
        import inspect_ai.scorer
    except ImportError as error:
        raise ConfigurationError(f"this needs the package inspect_ai: {install_command('inspect')}") from error
    return inspect_ai


class InspectPolicy:
    """The model that inspect evaluates, as a policy: every turn of a graph is one of its calls, in its log.

    Args:
        model: a model of inspect's, or its name; None is the one of the evaluation (`--model`).
    """

    def __init__(self, model: Any = None) -> None:
        _inspect()
        self._model = model

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The model's next message. It tells no token ids: graphs are evaluated with it, not trained."""
        inspect = _inspect()
        conversation = conversation_after(after, messages)
        kinds = {
            "system": inspect.model.ChatMessageSystem,
            "user": inspect.model.ChatMessageUser,
            "assistant": inspect.model.ChatMessageAssistant,
        }
        shown = [kinds[message["role"]](content=message["content"]) for message in conversation]
        output = await inspect.model.get_model(self._model).generate(shown, config=self._config(inspect, sampling))
        generation = Generation(
            text=output.completion,
            messages=conversation,
            prompt_ids=[],
            completion_ids=[],
            logprobs=[],
            finish_reason="length" if output.stop_reason in ("max_tokens", "model_length") else "stop",
        )
        if output.usage is not None:
            used = output.usage
            generation["usage"] = Usage(input_tokens=used.input_tokens, output_tokens=used.output_tokens)
        return generation

    def _config(self, inspect: Any, sampling: Sampling) -> Any:
        """How to draw. The evaluation's own settings stand where ours are the defaults."""
        given: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens}
        given |= {"top_p": sampling.top_p if sampling.top_p < 1 else None, "seed": sampling.seed}
        given["stop_seqs"] = list(sampling.stop) or None
        return inspect.model.GenerateConfig(**{name: value for name, value in given.items() if value is not None})


def inspect_agent(model: BaseChatModel, *, bridge: bool = False) -> Any:
    """An agent of inspect's that answers as `model` does: usually a `ChatSelfCorrect` over a graph.

    The turns before the answer are in the metadata of its message.

    Args:
        model: a graph reaches the model that is evaluated through `InspectPolicy`.
        bridge: run inside inspect's `agent_bridge`, so that nodes which ask OpenAI's client for the model "inspect"
            reach it too. Inspect wants a recent version of the package openai for that.

    Raises:
        ConfigurationError: inspect_ai is not installed.
    """
    inspect = _inspect()

    @inspect.agent.agent(name="selfcorrect")  # type: ignore[untyped-decorator]
    def correcting() -> Any:
        async def execute(state: Any) -> Any:
            async with inspect.agent.agent_bridge(state) if bridge else nullcontext():
                reply = await model.ainvoke([_as_langchain(message) for message in state.messages])
            said = inspect.model.ChatMessageAssistant(
                content=str(reply.text), metadata={"turns": reply.response_metadata.get("turns", [])}
            )
            state.messages.append(said)
            state.output = inspect.model.ModelOutput(
                model=str(reply.response_metadata.get("model_name", "selfcorrect")),
                choices=[inspect.model.ChatCompletionChoice(message=said, stop_reason="stop")],
            )
            return state

        return execute

    return correcting()


def _as_langchain(message: Any) -> BaseMessage:
    kinds: dict[str, type[BaseMessage]] = {"system": SystemMessage, "assistant": AIMessage}
    return kinds.get(message.role, HumanMessage)(content=message.text)


def inspect_scorer(checker: Checker | str) -> Any:
    """A scorer of inspect's that is one of our checkers.

    It compares with the reference that `inspect_samples` put into the sample, else with its target. An answer that
    could not be judged is unscored, and left out of the metrics.

    Args:
        checker: or its name: "math", "code", ...

    Raises:
        ConfigurationError: inspect_ai is not installed, or there is no such checker.
    """
    inspect = _inspect()
    judge = checker_named(checker) if isinstance(checker, str) else checker
    name = checker if isinstance(checker, str) else type(checker).__name__

    @inspect.scorer.scorer(metrics=[inspect.scorer.accuracy(), inspect.scorer.stderr()], name=f"selfcorrect_{name}")  # type: ignore[untyped-decorator]
    def judging() -> Any:
        async def score(state: Any, target: Any) -> Any:
            reference = state.metadata.get(_REFERENCE, target.text)
            fault = judge.validate_reference(reference)
            if fault is not None:
                return inspect.scorer.Score.unscored(explanation=f"the checker cannot use the reference: {fault}")
            verdict = await judged(judge, state.output.completion, reference, state.input_text)
            if verdict.status is Status.UNJUDGED:
                return inspect.scorer.Score.unscored(explanation=verdict.reason)
            return inspect.scorer.Score(
                value=verdict.score, answer=verdict.answer, explanation=f"{verdict.status}: {verdict.reason}"
            )

        return score

    return judging()


def inspect_samples(problems: Sequence[Problem]) -> list[Any]:
    """Problems as samples of inspect's; their references, which may be more than a text, are in the metadata."""
    inspect = _inspect()
    return [
        inspect.dataset.Sample(
            id=problem.id,
            input=problem.prompt,
            target=problem.reference if isinstance(problem.reference, str) else "",
            metadata={_REFERENCE: problem.reference, "difficulty": problem.difficulty},
        )
        for problem in problems
    ]
