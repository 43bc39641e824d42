"""The arms by name.

The command line, comparisons and their tables are made from this. A new arm is a file with a function and one line in
`ARMS`; a user's own is a function or an `ArmSpec`, as `package.module:Name`.
"""

import inspect
from collections.abc import Sequence
from functools import partial
from typing import Any

from selfcorrect.errors import ConfigurationError
from selfcorrect.registry import Registry, load, shown_kind
from selfcorrect.training.arms.specs import (
    GROUPS_OF_SOME,
    READS_LOOKS,
    ArmSpec,
    Choice,
    Command,
    branched_episode,
    drawing_again_loop,
    first_answer_only,
    growing_episode,
    judged_episode,
    loop_by,
    paired,
    refining_base_loop,
    refining_loop,
    reflected_episode,
    reinforced,
    self_judging_loop,
    self_taught,
    tried_again_episode,
    usual_loop,
)

_SCORE = Command("Train a policy to correct itself with SCoRe. Settings: the preset, --config, the options, --set.")
_TURNS = Command(
    "SCoRe for more than two turns: Stage I teaches one answer after the other. Needs --set graph.revisions=2 or more."
)
_SINGLE = Command("Reward the first answer only; there is no second turn while training.")
_MULTI = Command("Reward every answer by itself: no Stage I, no progress bonus.")
_MULTI_RETURN = Command(
    "The SCoRe paper's multi-turn RL: an answer is also paid, at 0.8 a turn, for those that follow it."
)
_MULTI_SUM = Command("Multi-turn RL whose answers are all paid for all that follow: a return across turns, gamma 1.")
_PAG = Command("PAG: the policy judges its own answer and revises only what it calls wrong; both are rewarded.")
_JUDGE_THEN_ACT = Command(
    "The policy judges its answer, revises what it calls wrong and stops at what it calls right: the word is paid for "
    "being true, right and wrong answers alike, and a further turn costs something.",
    reads=READS_LOOKS,
)
_S2R = Command(
    "S2R: imitate episodes whose verdicts are true, then pay verdicts and answers 1 or -1.", reads=READS_LOOKS
)
_SELF_REWARDING = Command(
    "Self-rewarding correction: imitate episodes that end right, then pay all turns the outcome.", reads=READS_LOOKS
)
_UFO = Command('UFO: after a wrong answer only "try again" is said; early and new answers are paid.', reads=READS_LOOKS)
_REFLECT_RETRY = Command(
    "Reflect, retry, reward: reflections on wrong answers are paid if the next answer is right.", reads=READS_LOOKS
)
_MURPHY = Command(
    "MURPHY: revisions of one wrong answer are compared with each other, and pay it what became of them.",
    reads=READS_LOOKS,
)
_COCOS = Command(
    "CoCoS: every answer is paid for the progress of the whole episode, late progress most.", reads=READS_LOOKS
)
_STAR = Command(
    "STaR: sample, keep what is right, fine-tune the original policy on it; and again with the new policy.",
    lambda settings: settings.star.loops,
    (
        Choice(
            "data",
            "star.data",
            ("single", "single+rationalised", "multi", "multi+correct"),
            "What is learnt: right first answers, with or without those found with a hint; or second answers that mend "
            "a wrong first one, with or without those that keep a right one. The same as --set star.data=...",
        ),
    ),
    reads=("star",),
)
_PAIR_SFT = Command(
    "Pair-SFT: sample answers, put a wrong and a right one together as two turns, fine-tune on the second.",
    lambda settings: 1,
    (
        Choice(
            "data",
            "pair_sft.data",
            ("pairs", "pairs+correct"),
            "What is learnt: right answers after wrong ones, or after right ones too. The same as --set "
            "pair_sft.data=...",
        ),
    ),
    reads=("pair_sft",),
)
_SFT = Command(
    "Warm-up: fine-tune on the task's gold solutions, for a model that cannot do the task yet, or on verdicts.",
    lambda settings: 1,
    (
        Choice(
            "form",
            "sft.form",
            ("attempt", "pairs", "verdicts"),
            "What is learnt: a solution as the first answer, or as the second after a wrong one of the model's own; or "
            "the checker's verdicts on its own answers. The same as --set sft.form=...",
        ),
    ),
    reads=("sft",),
)
_VSTAR = Command(
    "V-STaR: learn from right answers to generate, and from right and wrong ones to verify.",
    lambda settings: settings.vstar.rounds + len(settings.vstar.kinds),  # a step is a round, or training a verifier
    reads=("vstar",),
)
_RL = "selfcorrect.training.arms.reinforced:"
_MANY = "selfcorrect.training.arms.many_turns."
_STAGE2 = "selfcorrect.training.arms.star:score_stage2_star"
_ALL: tuple[ArmSpec, ...] = (
    ArmSpec("base", "the base policy", usual_loop, reads=()),
    ArmSpec("sample-again", "base, second attempt drawn anew", drawing_again_loop, reads=()),
    ArmSpec("self-refine", "base, critique before the revision", refining_base_loop, reads=()),
    ArmSpec("feedback", "base, told what the checker found: another setting", loop_by("feedback"), reads=()),
    ArmSpec("examples", "base, told what its problem's examples came to (code)", loop_by("examples"), reads=()),
    self_taught("star", "STaR, mended second answers (D_STaR)", "multi", _STAR),
    self_taught("star-plus", "STaR, mended and kept second answers (D+_STaR)", "multi+correct"),
    self_taught("star-single", "STaR on first answers, without rationalisation", "single"),
    self_taught("star-rationalised", "STaR on first answers, with rationalisation", "single+rationalised"),
    paired("pair-sft", "fine-tuned on wrong and right answers put together (D_SFT)", "pairs", _PAIR_SFT),
    paired("pair-sft-plus", "the same, and right after right (D+_SFT)", "pairs+correct"),
    reinforced("single-turn", "RL, first answer only", _RL + "single_turn", episode=first_answer_only, command=_SINGLE),
    reinforced("multi-turn", "RL, both answers", _RL + "multi_turn", command=_MULTI),
    reinforced(
        "multi-turn-return", "RL, return across turns, gamma 0.8", _RL + "multi_turn_return", command=_MULTI_RETURN
    ),
    reinforced("multi-turn-sum", "RL, return across turns, gamma 1", _RL + "multi_turn_sum", command=_MULTI_SUM),
    reinforced("score", "SCoRe", _RL + "score", command=_SCORE),
    reinforced("score-no-stage1", "SCoRe without Stage I", _RL + "score_no_stage1"),
    reinforced("score-no-shaping", "SCoRe without the progress bonus", _RL + "score_no_shaping"),
    reinforced("score-stage2-star", "SCoRe with STaR as Stage II", _STAGE2, has_checkpoints=False),
    reinforced(
        "score-turns",
        "SCoRe, Stage I answer by answer",
        "selfcorrect.training.arms.score_turns:score_turns",
        episode=growing_episode,
        command=_TURNS,
    ),
    reinforced(
        "pag",
        "RL, the policy judges itself",
        _RL + "pag",
        episode=judged_episode,
        loop=self_judging_loop,
        command=_PAG,
    ),
    reinforced(
        "judge-then-act",
        "RL, the word paid for its truth",
        _MANY + "judge_then_act:judge_then_act",
        episode=judged_episode,
        loop=self_judging_loop,
        command=_JUDGE_THEN_ACT,
    ),
    reinforced(
        "s2r",
        "S2R: true words imitated, then turns paid +-1",
        _MANY + "s2r:s2r",
        episode=judged_episode,
        loop=self_judging_loop,
        command=_S2R,
    ),
    reinforced(
        "self-rewarding",
        "episodes that end right imitated, then RL by the outcome",
        _MANY + "self_rewarding:self_rewarding",
        episode=judged_episode,
        loop=self_judging_loop,
        command=_SELF_REWARDING,
    ),
    reinforced(
        "ufo",
        'UFO: RL, "try again" until right, new answers paid',
        _MANY + "ufo:ufo",
        episode=tried_again_episode,
        command=_UFO,
    ),
    reinforced(
        "reflect-retry",
        "RL, reflections paid by the next answer",
        _MANY + "reflect_retry:reflect_retry",
        episode=reflected_episode,
        loop=refining_loop,
        command=_REFLECT_RETRY,
    ),
    reinforced("murphy", "MURPHY: RL over a tree", _MANY + "murphy:murphy", episode=branched_episode, command=_MURPHY),
    reinforced("cocos", "CoCoS: RL, progress of the episode paid", _MANY + "cocos:cocos", command=_COCOS),
    ArmSpec(
        "sft",
        "fine-tuned on the task's gold solutions",
        usual_loop,
        partial(load, "selfcorrect.training.arms.sft:sft"),
        planned=None,  # it learns from data that the others do not have
        command=_SFT,
        reads=_SFT.reads,
    ),
    ArmSpec(
        "vstar",
        "V-STaR, a generator and verifiers of it",
        usual_loop,
        partial(load, "selfcorrect.training.vstar.rounds:vstar"),
        planned=None,
        command=_VSTAR,
        reads=_VSTAR.reads,
    ),
)


def _own(address: str, found: Any) -> ArmSpec:
    """An arm of a user's own: an `ArmSpec`, or the function that trains it, whose steps are taken to be SCoRe's."""
    if isinstance(found, ArmSpec):
        return found
    if isinstance(found, type) or not callable(found) or "out" not in inspect.signature(found).parameters:
        raise ConfigurationError(
            f"{address} is no arm: expected an ArmSpec or a function (settings, *, out, progress=None, resume=False) "
            f"-> RunResult, got {shown_kind(found)}"
        )
    says = (inspect.getdoc(found) or address).splitlines()[0]
    return reinforced(address, says, address, command=Command(says, reads=GROUPS_OF_SOME))


ARMS: Registry[ArmSpec] = Registry("arm", {spec.name: spec for spec in _ALL}, accept=_own)
"""Every arm, in the order of the tables."""


def comparable() -> list[str]:
    """The names of the arms that can be compared at equal cost."""
    return [name for name, spec in ARMS.items() if spec.planned is not None]


def arm_specs(names: Sequence[str]) -> list[ArmSpec]:
    """The arms of these names, in this order, each once.

    Raises:
        ConfigurationError: a name is unknown; the message names the nearest. Or the arm cannot be compared.
    """
    if not names:
        raise ConfigurationError(f"no arms to compare; the arms are {', '.join(comparable())}")
    found = [ARMS.find(name) for name in dict.fromkeys(names)]
    for spec in found:
        if spec.planned is None:
            raise ConfigurationError(
                f"{spec.name} cannot be compared at equal cost; the arms are {', '.join(comparable())}"
            )
    return found
