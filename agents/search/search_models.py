"""Who takes part in a search: the policy, its prompts, and who scores."""

from collections.abc import Sequence
from dataclasses import dataclass

from selfcorrect.agents.policy import Policy, RenewingPolicy
from selfcorrect.agents.prompts import PLAIN, Prompts
from selfcorrect.agents.search.answer_keys import AnswerKey, answer_key
from selfcorrect.agents.search.state import Candidate, readable_score
from selfcorrect.agents.state import Generation, Message, tokens_of
from selfcorrect.errors import ConfigurationError, GraphError
from selfcorrect.rewards.verifier import StepVerifier, Verifier
from selfcorrect.tasks.problem import Problem


@dataclass(frozen=True)
class SearchModels:
    """What every strategy is given to build its graph from.

    Args:
        policy: writes the answers.
        verifier: scores them; needed by some strategies.
        step_verifier: scores unfinished answers in a search over steps; None leaves that to `verifier`.
        prompts: the words around the problem.
        key: what a vote counts as equal; None is `answer_key` of each problem.
    """

    policy: Policy
    verifier: Verifier | None = None
    prompts: Prompts = PLAIN
    key: AnswerKey | None = None
    step_verifier: StepVerifier | None = None

    def need_verifier(self, who: str) -> Verifier:
        """The verifier, for the strategy called `who`.

        Raises:
            ConfigurationError: there is none.
        """
        if self.verifier is None:
            raise ConfigurationError(f"{who} chooses by a verifier's scores: give verifier=... (--verifier DIR)")
        return self.verifier

    def need_renewing_policy(self, who: str) -> RenewingPolicy:
        """The policy as one that draws without replacement, for the strategy called `who`.

        Raises:
            ConfigurationError: it cannot.
        """
        if not isinstance(self.policy, RenewingPolicy):
            raise ConfigurationError(f"{who} draws without replacement, which a {type(self.policy).__name__} cannot do")
        return self.policy

    def opening(self, problem: Problem) -> list[Message]:
        """The messages that ask for a first answer."""
        shown = Message(role="user", content=self.prompts.attempt.replace("{problem}", problem.prompt))
        return [Message(role="system", content=self.prompts.system), shown] if self.prompts.system else [shown]

    def candidate(
        self, problem: Problem, generation: Generation, *, chain: int, revision: int = 0, tokens: int | None = None
    ) -> Candidate:
        """`generation` as a candidate. An answer that was cut off takes no part in the choice, whatever can be read
        in it."""
        cut_off = generation["finish_reason"] == "length"
        return Candidate(
            text=generation["text"],
            key=None if cut_off else (self.key or answer_key(problem))(generation["text"]),
            score=None,
            tokens=tokens_of(generation) if tokens is None else tokens,
            chain=chain,
            revision=revision,
            generation=generation,
        )


async def scores_of(verifier: Verifier, problem: Problem, texts: Sequence[str]) -> list[float | None]:
    """The verifier's scores; equal texts are shown once, what is not a number becomes an abstention.

    Raises:
        GraphError: as many scores as texts were expected, each in [0, 1].
    """
    different = list(dict.fromkeys(texts))
    if not different:
        return []
    given = await verifier.scores(problem.prompt, different)
    if len(given) != len(different):
        raise GraphError(
            f"the verifier gave {len(given)} scores for {len(different)} answers to problem {problem.id!r}"
        )
    scores = {text: readable_score(score) for text, score in zip(different, given, strict=True)}
    wrong = next((score for score in scores.values() if score is not None and not 0 <= score <= 1), None)
    if wrong is not None:
        raise GraphError(f"the verifier scored an answer to problem {problem.id!r} with {wrong}; scores are in [0, 1]")
    return [scores[text] for text in texts]
