"""What is measured of every batch, of its episodes and of the update, and what of a batch is learnt from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from selfcorrect.agents.state import answer_text, answers
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.ppo.batching import call_table
from selfcorrect.training.ppo.config import OverlongSettings
from selfcorrect.training.ppo.judging import alone
from selfcorrect.training.ppo.loss import LossTerms, TokenBatch
from selfcorrect.training.ppo.objectives import TurnSignal
from selfcorrect.training.ppo.rollouts import Episode
from selfcorrect.training.processes import together


def rollout_metrics(episodes: Sequence[Episode], seconds: float, unrecorded: int = 0) -> dict[str, float]:
    """Shares over the episodes of one batch, as sampled (not greedy).

    `accuracy_t1` ... are over judged answers; `delta`, `i_to_c`, `c_to_i` compare the first and the last answer (of
    more than two answers `delta_t2` and so on compare each with the one before) of episodes whose answers are all
    judged (an episode that ended early keeps its answer); `unjudged` and `truncated` are shares of answers and calls;
    `no_spread` is the share of problems whose last answers all scored the same, which teach nothing. They leave out
    the episodes whose first answer was given: `offline` is their share,
    `offline_accuracy_t1` and so on their accuracies. `calls` of the `draws` that the policy made were recorded
    (`unrecorded` were made where nobody recorded), `episodes_failed` is the share of episodes that raised.
    `episode_reward` is the mean of what the calls of an episode were paid in all, KL left out. `no_verdict` is the
    share of the critiques which a loop goes by that say neither of its words.
    """
    calls = [call for episode in episodes for call in episode.calls]
    metrics = {
        **cost_metrics(episodes, seconds),
        "truncated": sum(call.generation["finish_reason"] == "length" for call in calls) / len(calls),
        "calls": float(len(calls)),
        "draws": float(sum(episode.draws or len(episode.calls) for episode in episodes) + unrecorded),
        "episodes_failed": sum(episode.error is not None for episode in episodes) / len(episodes),
    }
    metrics.update(_reward_metrics(episodes))
    own = [episode for episode in episodes if not episode.offline]
    scored = [episode.scores for episode in own if episode.scores]
    if scored:
        metrics.update(_answer_metrics(own, scored))
    metrics.update(_offline_metrics([episode for episode in episodes if episode.offline], len(episodes)))
    return metrics


def calls_without_baseline(table: CallTable) -> float:
    """How many calls that learn and were paid have no call of another episode to be compared with. What is imitated
    needs none."""
    paid_C = ~torch.isnan(table.rewards_C) & (table.learns_C > 0) & ~table.imitated_C
    groups = table.groups_C[paid_C]
    sizes = torch.bincount(groups, minlength=1)
    return float((sizes[groups] == 1).sum())


def comparison_metrics(episodes: Sequence[Episode], table: CallTable, *, told: bool) -> dict[str, float]:
    """What a baseline that compares episodes lacks: `no_baseline`, and unless it is `told` already `no_signal`, the
    share of problems whose episodes were all paid the same."""
    lacking = {"no_baseline": calls_without_baseline(table)}
    return lacking if told else lacking | {"no_signal": share_without_spread(episodes)}


def cost_metrics(episodes: Sequence[Episode], seconds: float) -> dict[str, float]:
    """Sampled tokens and time; of all that was played, whether it is learnt from or not. `rollout_seconds` are those of
    playing with judging meanwhile, `judging_seconds` the sum over the answers, of which several are judged at once, and
    `judging_alone_seconds` the part of `rollout_seconds` in which answers were judged and nothing was drawn."""
    calls = (call for episode in episodes for call in episode.calls[episode.copied_calls :])
    tokens = sum(len(call.generation["completion_ids"]) for call in calls)
    return {
        "tokens": float(tokens),
        "tokens_per_second": tokens / max(seconds, 1e-9),
        "rollout_seconds": seconds,
        "judging_seconds": sum(map(_judging_seconds, episodes)),
        "judging_alone_seconds": alone(
            (span for episode in episodes for span in episode.judging),
            (span for episode in episodes for span in episode.drawing),
        ),
    }


def _judging_seconds(episode: Episode) -> float:
    """Of the verdicts in the state; a graph of a user's own need not keep any."""
    turns = episode.state.get("turns", []) if isinstance(episode.state, Mapping) else []
    verdicts = [turn.get("verdict") for turn in turns if isinstance(turn, Mapping)]
    return float(sum(verdict.get("seconds", 0.0) for verdict in verdicts if isinstance(verdict, Mapping)))


_COUNTS = frozenset({"tokens", "tokens_per_second", "calls", "draws", "no_baseline"})
"""Figures that grow with the number of processes; all others are shares, means and times."""


def over_processes(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of a step from those of its processes: counts are added, shares, means and times averaged.

    A process that lacks a figure, or has NaN, does not count in its mean. Processes play equally many episodes, so the
    mean of their shares is the share of all, unless some of their episodes have none.
    """
    names = dict.fromkeys(name for mine in figures for name in mine)
    known = {name: [mine[name] for mine in figures if not math.isnan(mine.get(name, math.nan))] for name in names}
    return {name: sum(values) / (1 if name in _COUNTS else len(values)) for name, values in known.items() if values}


@dataclass(slots=True)
class MeanOfTokens:
    """A mean that is gathered minibatch by minibatch."""

    total: float = 0.0
    count: float = 0.0

    def add(self, values_BT: Tensor, mask_BT: Tensor) -> None:
        self.total += float(torch.where(mask_BT > 0, values_BT, torch.zeros_like(values_BT)).sum())
        self.count += float((mask_BT > 0).sum())

    def over_processes(self) -> float:
        """The mean over the tokens of all processes; 0 of none."""
        sums = together((self.total, self.count))
        return sum(total for total, _ in sums) / max(1.0, sum(count for _, count in sums))


def _reward_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    by_kind: dict[str, list[float]] = {}
    paid = [[signal.reward for signal in episode.signals if signal.reward is not None] for episode in episodes]
    whole = [sum(rewards) for rewards in paid if rewards]
    for episode in episodes:
        for signal in episode.signals:
            if signal.reward is not None:
                by_kind.setdefault(signal.kind.replace(" ", "_"), []).append(signal.reward)
    figures = {f"reward/{kind}": sum(rewards) / len(rewards) for kind, rewards in by_kind.items()}
    figures |= {"episode_reward": sum(whole) / len(whole)} if whole else {}
    said = [signal.has_verdict for episode in episodes for signal in episode.signals if signal.has_verdict is not None]
    return figures | ({"no_verdict": said.count(False) / len(said)} if said else {})


def _answer_metrics(episodes: Sequence[Episode], scored: list[list[float | None]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    answers = [score for scores in scored for score in scores]
    metrics["unjudged"] = sum(score is None for score in answers) / len(answers)
    longest = max(map(len, scored))
    for turn in range(longest):
        reached = [scores[min(turn, len(scores) - 1)] for scores in scored]
        judged = [score for score in reached if score is not None]
        if judged:
            metrics[f"accuracy_t{turn + 1}"] = sum(score == 1 for score in judged) / len(judged)
            if any(0 < score < 1 for score in judged):  # a checker that gives fractions
                metrics[f"score_t{turn + 1}"] = sum(judged) / len(judged)
    pairs = [(scores[0], scores[-1]) for scores in scored if longest > 1 and None not in scores]
    if pairs:
        metrics["i_to_c"] = sum(first != 1 and last == 1 for first, last in pairs) / len(pairs)
        metrics["c_to_i"] = sum(first == 1 and last != 1 for first, last in pairs) / len(pairs)
        metrics["delta"] = metrics["i_to_c"] - metrics["c_to_i"]
        metrics["unchanged"] = _unchanged(episodes)
    if longest > 2:
        metrics.update(_turn_by_turn(scored, longest))
    metrics["no_spread"] = _no_spread(episodes)
    return metrics


def _turn_by_turn(scored: list[list[float | None]], longest: int) -> dict[str, float]:
    """`delta_t2`, `i_to_c_t2`, `c_to_i_t2`: from the first answer to the second; and so on."""
    metrics: dict[str, float] = {}
    for turn in range(1, longest):
        reached = [[scores[min(place, len(scores) - 1)] for place in (turn - 1, turn)] for scores in scored]
        pairs = [(before, after) for before, after in reached if before is not None and after is not None]
        if pairs:
            fixed = sum(before != 1 and after == 1 for before, after in pairs) / len(pairs)
            broken = sum(before == 1 and after != 1 for before, after in pairs) / len(pairs)
            names = (f"{name}_t{turn + 1}" for name in ("i_to_c", "c_to_i", "delta"))
            metrics.update(zip(names, (fixed, broken, fixed - broken), strict=True))
    return metrics


def _offline_metrics(given: Sequence[Episode], count: int) -> dict[str, float]:
    scored = [episode.scores for episode in given if episode.scores]
    accuracies = {
        f"offline_accuracy_t{turn + 1}": sum(score == 1 for score in judged) / len(judged)
        for turn in range(max(map(len, scored), default=0))
        if (judged := [scores[min(turn, len(scores) - 1)] for scores in scored if None not in scores])
    }
    return {"offline": len(given) / count, **accuracies} if given else {}


def _unchanged(episodes: Sequence[Episode]) -> float:
    """Share of episodes whose last answer repeats the first: 1 is the collapse to copying."""
    texts = [[answer_text(turn) for turn in answers(episode.state)] for episode in episodes if episode.scores]
    several = [answers for answers in texts if len(answers) > 1]
    return sum(answers[0] == answers[-1] for answers in several) / max(1, len(several))


def _no_spread(episodes: Sequence[Episode]) -> float:
    groups: dict[str, set[float | None]] = {}
    for episode in episodes:
        if episode.scores:
            groups.setdefault(episode.problem.id, set()).add(episode.scores[-1])
    return sum(len(scores) == 1 for scores in groups.values()) / max(1, len(groups))


def update_metrics(
    terms: LossTerms, batch: TokenBatch, kinds_BT: Tensor, entropies_BT: Tensor | None
) -> dict[str, float]:
    """Of one forward-backward pass: share of clipped tokens, mean ratio, entropy, and KL per turn in nats per token.

    `kinds_BT` numbers the kinds of calls in the order of their first appearance; with `build_graph` 0 is the first
    answer.
    """
    mask_BT = batch.mask_BT
    count = mask_BT.sum().clamp(min=1)
    metrics = {
        "policy_loss": float(terms.total.detach()),
        "clipped": float((terms.clipped_BT * mask_BT).sum() / count),
        "ratio_deviation": float(((terms.ratio_BT - 1).abs() * mask_BT).sum() / count),
    }
    if entropies_BT is not None:
        metrics["entropy"] = float((entropies_BT.detach() * mask_BT).sum() / count)
    if batch.reference_logprobs_BT is not None:
        for kind in torch.unique(kinds_BT[kinds_BT >= 0]).tolist():
            here_BT = (kinds_BT == kind) * mask_BT
            metrics[f"kl_t{kind + 1}"] = float((terms.kl_BT * here_BT).sum() / here_BT.sum().clamp(min=1))
    return metrics


_QUANTILES = {"min": 0.0, "q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99, "max": 1.0}


def mismatch_metrics(log_ratio_RT: Tensor, weights_RT: Tensor | None, sampled_RT: Tensor) -> dict[str, float]:
    """How far the engine's log-probabilities are from the trainer's: `mismatch/q50` and so on, quantiles of the ratio
    trainer / engine over sampled tokens; `mismatch/kl`, KL(engine || trainer) in nats a token; `mismatch/nats`, the
    mean distance; `mismatch/cut`, the share of tokens whose weight is not their own ratio.

    Args:
        log_ratio_RT: trainer minus engine.
        weights_RT: what the tokens' losses are multiplied by; None is nothing.
        sampled_RT: which positions hold sampled tokens.
    """
    log_ratios = log_ratio_RT[sampled_RT].double()
    if not log_ratios.numel():
        return {}
    ordered = log_ratios.sort().values  # torch.quantile refuses more than 2^24 numbers
    places = {name: round(share * (len(ordered) - 1)) for name, share in _QUANTILES.items()}
    figures = {f"mismatch/{name}": float(ordered[place].exp()) for name, place in places.items()}
    figures |= {"mismatch/kl": float(-log_ratios.mean()), "mismatch/nats": float(log_ratios.abs().mean())}
    if weights_RT is not None:
        off = (weights_RT[sampled_RT].double() - log_ratios.exp()).abs() > 1e-4 * log_ratios.exp()
        figures["mismatch/cut"] = float(off.double().mean())
    return figures


# What of a batch is learnt from: answers that were cut off, answers that grow too long, problems without spread.

_NO_SPREAD = 1e-6
"""Rewards nearer than this are equal."""


def with_lengths(
    episodes: Sequence[Episode], *, truncated: Literal["learn", "mask"], overlong: OverlongSettings | None
) -> list[Episode]:
    """The episodes with what length does to their signals.

    Args:
        truncated: "mask" takes calls that were cut off at the limit out of the loss (DAPO's overlong filtering); their
            reward is still compared with.
        overlong: what long answers are paid less, by their length.
    """
    return [replace(episode, signals=_of_lengths(episode, truncated, overlong)) for episode in episodes]


def _of_lengths(episode: Episode, truncated: str, overlong: OverlongSettings | None) -> list[TurnSignal]:
    signals = []
    for call, signal in zip(episode.calls, episode.signals, strict=True):
        if overlong is not None and signal.reward is not None:
            length = len(call.generation["completion_ids"])
            signal = replace(signal, reward=signal.reward - overlong.charge(length))
        if truncated == "mask" and call.generation["finish_reason"] == "length":
            signal = replace(signal, learns=False)
        signals.append(signal)
    return signals


def has_spread_C(table: CallTable) -> Tensor:
    """(C,) bool, whether the call's problem can teach anything: some kind of its calls was not paid the same in all
    episodes, or some call is imitated, which needs no comparison."""
    paid: dict[int, set[float]] = {}
    for group, reward, known in zip(
        table.groups_C.tolist(), table.rewards_C.tolist(), table.paid_C.tolist(), strict=True
    ):
        if known:
            paid.setdefault(group, set()).add(reward)
    differs = {group for group, rewards in paid.items() if max(rewards) - min(rewards) > _NO_SPREAD}
    problems = zip(table.groups_C.tolist(), table.problems_C.tolist(), strict=True)
    useful = {problem for group, problem in problems if group in differs}
    useful.update(table.problems_C[table.imitated_C & (table.rewards_C > 0)].tolist())
    return torch.tensor([problem in useful for problem in table.problems_C.tolist()], dtype=torch.bool)


def without_spread(episodes: Sequence[Episode], table: CallTable) -> set[str]:
    """The ids of the problems that teach nothing."""
    spread_C = has_spread_C(table)
    counts = (len(episode.calls) for episode in episodes)
    firsts = zip(episodes, table.offsets, counts, strict=True)
    return {episode.problem.id for episode, first, count in firsts if count and not spread_C[first]}


def share_without_spread(episodes: Sequence[Episode]) -> float:
    """Of the problems."""
    problems = {episode.problem.id for episode in episodes}
    return len(without_spread(episodes, call_table(episodes))) / max(1, len(problems))


def dropped(episodes: Sequence[Episode], table: CallTable) -> list[Episode]:
    """The episodes, those of problems without spread taken out of the loss: their KL is not charged either."""
    idle = without_spread(episodes, table)
    return [
        replace(episode, signals=[replace(signal, learns=False) for signal in episode.signals])
        if episode.problem.id in idle
        else episode
        for episode in episodes
    ]
