"""A policy whose every episode can be written out, with episodes of one to three turns, and the exact gradients of what
ways of credit say they maximise.

Each turn is one token of three. Token 2 ends the episode, and so does the third turn: 15 episodes, of 1, 2 and 3 turns.
With `fixed` no token ends it: 27 episodes of 3 turns.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from selfcorrect.training.credit.table import NAN, CallTable

VOCABULARY, LONGEST, STOP = 3, 3, 2
Tokens = tuple[int, ...]
Rewards = Callable[[Tokens], list[float | None]]


def rewards_of(tokens: Tokens) -> list[float | None]:
    """Some rewards without symmetry, a number for every turn."""
    return [0.25 * ((3 * tokens[k] + 2 * k + sum(tokens[:k])) % 5) for k in range(len(tokens))]


@dataclass(frozen=True)
class Toy:
    """Logits for every prefix of tokens, and the rewards of every episode.

    Args:
        seed: of the logits.
        fixed: whether all episodes have three turns.
        rewards: one per turn; None is unpaid.
        unjudged: the turns, as prefixes, whose judge fails.
    """

    seed: int = 0
    fixed: bool = False
    rewards: Rewards = rewards_of
    unjudged: frozenset[Tokens] = frozenset()

    @cached_property
    def logits(self) -> dict[Tokens, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        prefixes = [prefix for turns in range(LONGEST) for prefix in itertools.product(range(VOCABULARY), repeat=turns)]
        return {
            prefix: torch.randn(VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
            for prefix in prefixes
        }

    @cached_property
    def episodes(self) -> list[Tokens]:
        return list(self._grown(()))

    def _grown(self, prefix: Tokens) -> Iterator[Tokens]:
        if len(prefix) == LONGEST or (prefix and prefix[-1] == STOP and not self.fixed):
            yield prefix
            return
        for token in range(VOCABULARY):
            yield from self._grown((*prefix, token))

    def turn_logprobs(self, tokens: Tokens) -> list[Tensor]:
        return [self.logits[tokens[:k]].log_softmax(0)[token] for k, token in enumerate(tokens)]

    @cached_property
    def probabilities(self) -> Tensor:
        """(episodes,)"""
        return torch.stack([sum(self.turn_logprobs(tokens)).exp().detach() for tokens in self.episodes])

    @cached_property
    def scores(self) -> list[list[Tensor]]:
        """grad log pi of every turn of every episode, flattened over all logits."""
        return [[self.gradient_of(logprob) for logprob in self.turn_logprobs(tokens)] for tokens in self.episodes]

    def gradient_of(self, scalar: Tensor) -> Tensor:
        grads = torch.autograd.grad(scalar, list(self.logits.values()), allow_unused=True, retain_graph=True)
        return torch.cat([torch.zeros(VOCABULARY, dtype=torch.float64) if grad is None else grad for grad in grads])

    def paid(self, tokens: Tokens) -> list[float | None]:
        return [None if tokens[: k + 1] in self.unjudged else reward for k, reward in enumerate(self.rewards(tokens))]

    def table(self, groups: Sequence[Sequence[int]]) -> CallTable:
        """Every entry of `groups` is one problem's episodes, by their numbers; the problems are compared with nothing
        of each other."""
        rows = [
            (problem, number, k)
            for problem, group in enumerate(groups)
            for number in group
            for k in range(len(self.episodes[number]))
        ]
        episodes = [place for place, number in enumerate(itertools.chain(*groups)) for _ in self.episodes[number]]
        paid = {number: self.paid(self.episodes[number]) for number in set(itertools.chain(*groups))}
        rewards = [NAN if (reward := paid[n][k]) is None else reward for _, n, k in rows]
        previous = [NAN if not k or (reward := paid[n][k - 1]) is None else reward for _, n, k in rows]
        prefixes = {prefix: index for index, prefix in enumerate(self.logits)}
        column = lambda values: torch.tensor(values)
        starts = torch.unique_consecutive(column(episodes), return_counts=True)[1].cumsum(0)
        return CallTable(
            rewards_C=torch.tensor(rewards, dtype=torch.float64),
            groups_C=column([problem * LONGEST + k for problem, _, k in rows]),
            previous_C=torch.tensor(previous, dtype=torch.float64),
            kinds_C=column([k for _, _, k in rows]),
            roles_C=column([0 for _ in rows]),
            kl_coefficients_C=torch.zeros(len(rows)),
            learns_C=torch.ones(len(rows)),
            offsets=[0, *starts[:-1].tolist()],
            episodes_C=column(episodes),
            problems_C=column([problem for problem, _, _ in rows]),
            states_C=column([problem * len(prefixes) + prefixes[self.episodes[n][:k]] for problem, n, k in rows]),
            unjudged_C=column([self.episodes[n][: k + 1] in self.unjudged for _, n, k in rows]),
            branchings_C=torch.arange(len(rows)),
            imitated_C=torch.zeros(len(rows), dtype=torch.bool),
        )

    def expected(self, estimate: Callable[[CallTable], Tensor], size: int, *, at_once: bool = True) -> Tensor:
        """The exact expectation of the gradient that `estimate`'s advantages give, over all groups of `size` episodes,
        per episode.

        `at_once` puts all groups in one table, as problems of one batch; estimators that look at other problems too
        must be asked group by group.
        """
        groups = list(itertools.product(range(len(self.episodes)), repeat=size))
        tables = [groups] if at_once else [[group] for group in groups]
        total = torch.zeros(VOCABULARY * len(self.logits), dtype=torch.float64)
        for these in tables:
            advantages = estimate(self.table(these)).double()
            total = total + self._weighted(advantages, these) / size
        return total

    def _weighted(self, advantages_C: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
        weights, scores = [], []
        for group in groups:
            probability = float(self.probabilities[list(group)].prod())
            for number in group:
                weights += [probability] * len(self.scores[number])
                scores += self.scores[number]
        return (advantages_C * torch.tensor(weights, dtype=torch.float64)) @ torch.stack(scores)

    def exact(self, worth: Callable[[list[float]], list[float]]) -> Tensor:
        """The gradient of sum over turns k of E[worth_k], each with regard to turn k alone: what came before it and
        what comes after it are as the policy has them, but not to be changed."""
        total = torch.zeros(VOCABULARY * len(self.logits), dtype=torch.float64)
        for number, tokens in enumerate(self.episodes):
            values = worth([reward or 0.0 for reward in self.rewards(tokens)])
            for score, value in zip(self.scores[number], values, strict=True):
                total = total + self.probabilities[number] * value * score
        return total

    def whole(self, worth: Callable[[list[float]], float]) -> Tensor:
        """The gradient of E[worth(rewards)] with regard to everything, by automatic differentiation: no policy gradient
        theorem in it."""
        total = torch.zeros((), dtype=torch.float64)
        for tokens in self.episodes:
            total = total + sum(self.turn_logprobs(tokens)).exp() * worth([r or 0.0 for r in self.rewards(tokens)])
        return self.gradient_of(total)


def to_go(rewards: list[float], gamma: float) -> list[float]:
    return [sum(gamma ** (j - k) * rewards[j] for j in range(k, len(rewards))) for k in range(len(rewards))]
