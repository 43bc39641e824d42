"""What can be compared."""

import difflib
from collections.abc import Sequence
from typing import Any

from selfcorrect.agents.graph import CorrectionGraph
from selfcorrect.errors import ConfigurationError
from selfcorrect.rewards.checker import Checker
from selfcorrect.training.arms import Arm
from selfcorrect.training.compare.budgets import Costs
from selfcorrect.training.compare.entrant import (
    Entrant,
    paired,
    reinforced,
    self_judging_loop,
    self_taught,
    usual_loop,
)
from selfcorrect.training.settings import RunSettings


def _star() -> Arm:
    from selfcorrect.training.arms.star import star

    return star


def _pair_sft() -> Arm:
    from selfcorrect.training.arms.pair_sft import pair_sft

    return pair_sft


def _score_stage2_star() -> Arm:
    from selfcorrect.training.arms.score_stage2_star import score_stage2_star

    return score_stage2_star


def _score() -> Arm:
    from selfcorrect.training.arms.score import score

    return score


def _score_no_stage1() -> Arm:
    from selfcorrect.training.arms.score import score_no_stage1

    return score_no_stage1


def _score_no_shaping() -> Arm:
    from selfcorrect.training.arms.score import score_no_shaping

    return score_no_shaping


def _single_turn() -> Arm:
    from selfcorrect.training.arms.single_turn import single_turn

    return single_turn


def _multi_turn() -> Arm:
    from selfcorrect.training.arms.multi_turn import multi_turn

    return multi_turn


def _pag() -> Arm:
    from selfcorrect.training.arms.pag import pag

    return pag


def _self_refine_loop(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    from selfcorrect.training.arms.self_refine import self_refine_loop

    return self_refine_loop(settings, policy)


def _sample_again_loop(settings: RunSettings, policy: Any, checker: Checker) -> CorrectionGraph:
    from selfcorrect.training.arms.sample_again import sample_again_loop

    return sample_again_loop(settings, policy)


def _first_answer_only(settings: RunSettings, costs: Costs) -> float:
    return costs.attempt


def _judged_episode(settings: RunSettings, costs: Costs) -> float:
    """An answer, its judgement, and a revision of those called wrong, `revisions` times."""
    tokens, reached = costs.attempt, 1.0
    for _ in range(settings.graph.revisions):
        tokens += reached * costs.critique
        reached *= costs.called_wrong
        tokens += reached * costs.revise
    return tokens


ENTRANTS: tuple[Entrant, ...] = (
    Entrant("base", "the base policy", usual_loop),
    Entrant("sample-again", "base, second attempt drawn anew", _sample_again_loop),
    Entrant("self-refine", "base, critique before the revision", _self_refine_loop),
    self_taught("star", "STaR, mended second answers (D_STaR)", _star, "multi"),
    self_taught("star-plus", "STaR, mended and kept second answers (D+_STaR)", _star, "multi+correct"),
    self_taught("star-single", "STaR on first answers, without rationalisation", _star, "single"),
    self_taught("star-rationalised", "STaR on first answers, with rationalisation", _star, "single+rationalised"),
    paired("pair-sft", "fine-tuned on wrong and right answers put together (D_SFT)", _pair_sft, "pairs"),
    paired("pair-sft-plus", "the same, and right after right (D+_SFT)", _pair_sft, "pairs+correct"),
    reinforced("single-turn", "RL, first answer only", _single_turn, episode=_first_answer_only),
    reinforced("multi-turn", "RL, both answers", _multi_turn),
    reinforced("score", "SCoRe", _score),
    reinforced("score-no-stage1", "SCoRe without Stage I", _score_no_stage1),
    reinforced("score-no-shaping", "SCoRe without the progress bonus", _score_no_shaping),
    reinforced("score-stage2-star", "SCoRe with STaR as Stage II", _score_stage2_star),
    reinforced("pag", "RL, the policy judges itself", _pag, episode=_judged_episode, loop=self_judging_loop),
)


def entrants(names: Sequence[str]) -> list[Entrant]:
    """The entrants of these names, in this order, each once.

    Raises:
        ConfigurationError: a name is unknown; the message names the nearest.
    """
    known = {entrant.name: entrant for entrant in ENTRANTS}
    for name in names:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f" did you mean {nearest[0]}?" if nearest else ""
            raise ConfigurationError(f"unknown arm {name!r};{hint} The arms are {', '.join(known)}")
    if not names:
        raise ConfigurationError(f"no arms to compare; the arms are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]
