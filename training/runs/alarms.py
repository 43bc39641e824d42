"""Ways in which training goes wrong while its figures look fine, told as soon as they show.

Pure functions of the figures of steps (see `progress.py` for their names). A figure that was not measured raises no
alarm.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from selfcorrect.errors import TrainingError

Figures = Mapping[str, float | None]

_COPIES = 0.98
"""Share of unchanged answers above which a second turn has stopped to be one."""
_LONGER = 1.5
_TRUNCATED = 0.05
_CUT_OFF = 0.5
"""Share of turns at the token limit above which a run begins badly, whatever the base policy did."""
_UNJUDGED = 0.02
_SPEECHLESS = 0.9
"""Share of critiques without a verdict above which a loop that goes by them does not work."""
_FAILED = 0.1
_STILL = 0.9
"""Share of greedy answers that are word for word those of before, above which nothing was learnt. On SmolLM2-135M runs
that learnt something kept 0.23 to 0.34, and one whose adapter had the rate of all weights 0.97."""
_ENOUGH_ANSWERS = 50
"""To say so."""
_FIRST_STEPS = 3
"""What a run begins with stands for the base policy."""
_RECENT_STEPS = 5
_STANDARD_ERRORS = 3.0
"""A fall of the first answers by less than this many standard errors may be chance: alarms are asked after every
step."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """`name` for programs and files, `words` for people."""

    name: str
    words: str


def alarms(recent: Sequence[Figures], start: Figures, *, episodes: int) -> list[Alarm]:
    """What the last steps give reason to fear.

    Args:
        recent: the figures of the last steps, a handful, oldest first; their means are looked at.
        start: the same figures of the base policy, or of the first steps.
        episodes: in all of `recent` together, and about as many in `start`; decides what may be chance.
    """
    now = {name: _mean(recent, name) for name in _LOOKED_AT}
    found = [
        copying(now["unchanged"], start.get("unchanged")),
        sandbagging(now["accuracy_t1"], start.get("accuracy_t1"), now["delta"], start.get("delta"), episodes=episodes),
        length_creep(now["tokens_per_episode"], start.get("tokens_per_episode")),
        truncation(now["truncated"], start.get("truncated")),
        unjudged(now["unjudged"]),
        failing(now["episodes_failed"]),
        unrecorded(now["calls"], now["draws"]),
        without_verdict(now["no_verdict"]),
    ]
    return [alarm for alarm in found if alarm is not None]


_LOOKED_AT = (
    "unchanged", "accuracy_t1", "delta", "tokens_per_episode", "truncated", "unjudged",
    "episodes_failed", "calls", "draws", "no_verdict",
)  # fmt: skip


def nothing_learnt(step: Figures, *, correct_before: bool) -> Alarm | None:
    """What one batch gives reason to think that nothing can be learnt from it, with what to do; None where something
    can. Where a critic learns (`value_loss`) neither groups nor gradients say so.

    Args:
        step: figures of one batch.
        correct_before: whether an earlier batch of the run had a correct answer.
    """
    accuracies = [value for name, value in step.items() if name.startswith("accuracy_t") and value is not None]
    fractions = any(name.startswith("score_t") for name in step)
    if accuracies and max(accuracies) == 0 and not fractions and not correct_before:
        return Alarm(
            "none_correct",
            "no answer was correct yet, so there is nothing to reinforce: warm up by supervised fine-tuning on right "
            "solutions, or take an easier task, a higher optimiser.temperature, or a larger policy.max_new_tokens",
        )
    if "value_loss" in step:
        return None
    if step.get("no_signal") == 1 or step.get("grad_norm") == 0:
        speechless = without_verdict(step.get("no_verdict"))
        if speechless is not None:
            return speechless
    if step.get("no_signal") == 1:
        return Alarm(
            "no_signal",
            "all episodes of each problem were paid the same, so nothing is learnt: raise optimiser.temperature or "
            "optimiser.episodes_per_problem, or take problems of which some are solved and some are not",
        )
    if step.get("grad_norm") == 0:
        return Alarm(
            "no_gradient",
            "the gradient is 0, so no weight moves: see whether any turn is paid, and whether optimiser.truncated=mask "
            "or optimiser.no_spread=drop leaves everything out",
        )
    return None


def without_verdict(share: float | None) -> Alarm | None:
    """The policy is to judge itself, and hardly ever does so in words that the loop reads."""
    if share is None or share <= _SPEECHLESS:
        return None
    return Alarm(
        "no_verdict",
        f"{share:.1%} of the policy's critiques say neither of the words that the loop goes by (prompts.says_right and "
        "prompts.says_wrong), so nothing is revised, and no word can be reinforced that is never said: warm up with "
        "`selfcorrect train sft --form verdicts`, ask for the words in prompts.critique, or give those that the policy "
        "uses",
    )


def standing_still(before: Sequence[str], after: Sequence[str]) -> Alarm | None:
    """The trained policy's greedy answers are those of the policy before, to the same problems in the same order."""
    same = sum(one == other for one, other in zip(before, after, strict=True)) / max(1, len(before))
    if len(before) < _ENOUGH_ANSWERS or same <= _STILL:
        return None
    return Alarm(
        "standing_still",
        f"{same:.1%} of {len(before):,} greedy answers are word for word those of before the training: the policy has "
        "hardly moved. Raise the learning rate (adapters want ten times that of all weights), or train for longer",
    )


def cut_off(truncated: float | None) -> Alarm | None:
    """Most turns are cut off at the token limit from the start: hardly an answer is ever finished."""
    if truncated is None or truncated <= _CUT_OFF:
        return None
    return Alarm(
        "cut_off",
        f"{truncated:.1%} of the turns are cut off at the token limit from the start: raise policy.max_new_tokens",
    )


def copying(unchanged: float | None, at_start: float | None) -> Alarm | None:
    """The second answer repeats the first: nothing is corrected any more (SCoRe section 4, "collapse")."""
    if unchanged is None or unchanged < _COPIES or (at_start is not None and at_start >= _COPIES):
        return None
    return Alarm(
        "copying", f"{unchanged:.1%} of the second answers repeat the first: the policy stops correcting itself"
    )


def sandbagging(
    first: float | None,
    first_at_start: float | None,
    delta: float | None,
    delta_at_start: float | None,
    *,
    episodes: int,
) -> Alarm | None:
    """Delta rises because first answers get worse: the policy errs first in order to correct itself (PAG section 5)."""
    if first is None or first_at_start is None or delta is None or delta_at_start is None:
        return None
    middle = (first + first_at_start) / 2
    error = math.sqrt(2 * middle * (1 - middle) / max(1, episodes))
    if first_at_start - first <= _STANDARD_ERRORS * error or delta <= delta_at_start:
        return None
    return Alarm(
        "sandbagging",
        f"first answers fell from {first_at_start:.3f} to {first:.3f} while delta rose from {delta_at_start:+.3f} to "
        f"{delta:+.3f}: a larger beta2 or beta_first holds the first turn",
    )


def length_creep(tokens: float | None, at_start: float | None) -> Alarm | None:
    """Episodes grow longer."""
    if tokens is None or not at_start or tokens <= _LONGER * at_start:
        return None
    return Alarm("length", f"episodes grew from {at_start:.0f} to {tokens:.0f} tokens")


def truncation(truncated: float | None, at_start: float | None) -> Alarm | None:
    """More turns are cut off at the token limit than at the start."""
    if truncated is None or truncated <= _TRUNCATED or truncated <= 2 * (at_start or 0.0):
        return None
    return Alarm(
        "truncation", f"{truncated:.1%} of the turns are cut off at the token limit: raise policy.max_new_tokens"
    )


def unjudged(share: float | None) -> Alarm | None:
    """The checker fails to judge: what it cannot judge teaches nothing, and may be what the policy learns to write."""
    if share is None or share <= _UNJUDGED:
        return None
    return Alarm("unjudged", f"the checker could not judge {share:.1%} of the answers")


def failing(share: float | None) -> Alarm | None:
    """Episodes raise and are left out: what is learnt is learnt from the others alone."""
    if share is None or share <= _FAILED:
        return None
    return Alarm("failing", f"{share:.1%} of the episodes failed and were left out or paid as failures")


def unrecorded(calls: float | None, draws: float | None) -> Alarm | None:
    """Draws of the policy that nobody recorded teach nothing: made in threads without the episode's context, or by
    nodes that were tried again."""
    if calls is None or draws is None or calls >= draws:
        return None
    return Alarm(
        "unrecorded",
        f"{calls:.0f} of {draws:.0f} draws were recorded; start threads of your own with contextvars.copy_context() or "
        "asyncio.to_thread",
    )


class Watch:
    """Looks at every step of a run and tells the alarms that stand.

    Args:
        episodes_per_step: of the run.
        earlier: the steps of a resumed run that were done before.
        stop_after_idle: batches in a row from which nothing can be learnt, after which `check` raises; 0 is never.
    """

    def __init__(self, episodes_per_step: int, earlier: Sequence[Figures] = (), *, stop_after_idle: int = 0) -> None:
        self._per_step = episodes_per_step
        self._stop_after = stop_after_idle
        self._correct = False
        self._idle = 0
        self._reason = ""
        self._first: list[Figures] = []
        self._last: deque[Figures] = deque(maxlen=_RECENT_STEPS)
        self._told: set[str] = set()
        for step in earlier:
            self.standing(step)

    def standing(self, step: Figures) -> list[Alarm]:
        """The alarms after `step`: those that one batch shows at once, and, when there are steps to compare with the
        first ones, the others."""
        return [*self._at_once(step), *self._by_comparison(step)]

    def check(self) -> None:
        """Stop a run that learns nothing.

        Raises:
            TrainingError: nothing could be learnt from the last `stop_after_idle` batches.
        """
        if self._stop_after and self._idle >= self._stop_after:
            raise TrainingError(
                f"stopped: nothing was learnt from the last {self._idle} batches. Of the last one: {self._reason}. "
                "(optimiser.stop_after_idle sets after how many the run stops; 0 is never)"
            )

    def _at_once(self, step: Figures) -> list[Alarm]:
        idle = nothing_learnt(step, correct_before=self._correct)
        self._correct |= any((step.get(name) or 0) > 0 for name in step if name.startswith("accuracy_t"))
        self._idle = 0 if idle is None else self._idle + 1
        self._reason = "" if idle is None else idle.words
        beginning = cut_off(step.get("truncated")) if len(self._first) < _FIRST_STEPS else None
        return [alarm for alarm in (idle, beginning) if alarm is not None]

    def _by_comparison(self, step: Figures) -> list[Alarm]:
        tokens = step.get("tokens")
        figures = {**step, "tokens_per_episode": None if tokens is None else tokens / self._per_step}
        if len(self._first) < _FIRST_STEPS:
            self._first.append(figures)
            return []
        self._last.append(figures)
        if len(self._last) < _RECENT_STEPS:
            return []
        start = {name: _mean(self._first, name) for name in _LOOKED_AT}
        return alarms(list(self._last), start, episodes=_FIRST_STEPS * self._per_step)

    def untold(self, standing: Sequence[Alarm]) -> list[Alarm]:
        """Those of `standing` that were not told before."""
        new = [alarm for alarm in standing if alarm.name not in self._told]
        self._told.update(alarm.name for alarm in new)
        return new


def _mean(steps: Sequence[Figures], name: str) -> float | None:
    values = [value for step in steps if (value := step.get(name)) is not None]
    return sum(values) / len(values) if values else None
