"""A policy whose every episode can be written out, with episodes of one to three turns, and the exact gradients of what
ways of credit say they maximise.

Each turn is one token of three. Token 2 ends the episode, and so does the third turn: 15 episodes, of 1, 2 and 3 turns.
With `fixed` no token ends it: 27 episodes of 3 turns. `Spoken` says each turn in one or two tokens of a smaller
vocabulary, for what works token by token.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from selfcorrect.training.credit.gae import Decay
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


# Turns of several tokens.

SAID: tuple[Tokens, ...] = ((0, 0), (1,), (0, 1))
"""What each of the toy's three turns is, token by token."""
State = tuple[Tokens, Tokens]
"""The turns so far, and the tokens of the turn that has begun."""
Values = Mapping[State, float]
Level = Literal["token", "turn"]


@dataclass(frozen=True)
class Step:
    """One decision: a token, or at level "turn" a whole turn."""

    state: State
    score: Tensor
    turn: int
    reward: float | None


@dataclass(frozen=True)
class Spoken:
    """The episodes and rewards of a `Toy` by a policy that draws token by token.

    Args:
        toy: its episodes and rewards; not its logits.
        seed, scale: of the logits; at scale 0 both tokens are as likely everywhere.
    """

    toy: Toy
    seed: int = 0
    scale: float = 1.0

    @cached_property
    def logits(self) -> dict[State, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        prefixes = [turns for k in range(LONGEST) for turns in itertools.product(range(VOCABULARY), repeat=k)]
        return {
            (turns, said): (self.scale * torch.randn(2, generator=generator, dtype=torch.float64)).requires_grad_()
            for turns in prefixes
            for said in ((), (0,))
        }

    def drawn(self, tokens: Tokens) -> list[tuple[State, int]]:
        """Every token of an episode, after what it was drawn."""
        return [
            ((tokens[:k], SAID[turn][:place]), token)
            for k, turn in enumerate(tokens)
            for place, token in enumerate(SAID[turn])
        ]

    def logprob(self, tokens: Tokens) -> Tensor:
        return torch.stack([self.logits[state].log_softmax(0)[token] for state, token in self.drawn(tokens)]).sum()

    @cached_property
    def probabilities(self) -> list[float]:
        return [float(self.logprob(tokens).exp().detach()) for tokens in self.toy.episodes]

    def steps(self, tokens: Tokens, level: Level = "token") -> list[Step]:
        """The decisions of an episode; the reward of a turn comes with its last one."""
        if (tokens, level) not in self._steps:
            self._steps[tokens, level] = self._decided(tokens, level)
        return self._steps[tokens, level]

    @cached_property
    def _steps(self) -> dict[tuple[Tokens, Level], list[Step]]:
        return {}

    def _decided(self, tokens: Tokens, level: Level) -> list[Step]:
        paid = self.toy.paid(tokens)
        found: list[Step] = []
        for state, token in self.drawn(tokens):
            turn, said = len(state[0]), (*state[1], token)
            reward = paid[turn] if said == SAID[tokens[turn]] else 0.0
            if level == "turn" and state[1]:
                before = found.pop()
                found.append(Step(before.state, before.score + self.score(state, token), turn, reward))
            else:
                found.append(Step(state, self.score(state, token), turn, reward))
        return found

    def score(self, state: State, token: int) -> Tensor:
        """grad log pi of a token, flattened over all logits."""
        return self._scores[state][token]

    @cached_property
    def _scores(self) -> dict[State, Tensor]:
        """(2, logits) for each state."""
        size, found = len(self.logits), {}
        for number, (state, logits) in enumerate(self.logits.items()):
            flat = torch.zeros(2, size, 2, dtype=torch.float64)
            flat[:, number] = torch.eye(2) - logits.softmax(0).detach()
            found[state] = flat.flatten(1)
        return found

    def returns(self, steps: Sequence[Step], within: Decay, across: Decay) -> list[float]:
        """Discounted rewards from each step on; a reward that nobody knows counts as 0."""
        found, following = [], 0.0
        for number in reversed(range(len(steps))):
            ends = number + 1 == len(steps) or steps[number + 1].turn != steps[number].turn
            following = (steps[number].reward or 0.0) + (across if ends else within).discount * following
            found.append(following)
        return found[::-1]

    def exact(self, within: Decay, across: Decay, level: Level = "token") -> Tensor:
        """The gradient of sum over steps of E[return from the step], each with regard to that step alone."""
        return self.expected(lambda steps: self.returns(steps, within, across), level)

    def expected(self, advantages: Callable[[list[Step]], Sequence[float]], level: Level = "token") -> Tensor:
        """The exact expectation of the gradient that advantages give, one a step of each episode."""
        total = torch.zeros(2 * len(self.logits), dtype=torch.float64)
        for probability, tokens in zip(self.probabilities, self.toy.episodes, strict=True):
            steps = self.steps(tokens, level)
            for step, advantage in zip(steps, advantages(steps), strict=True):
                total = total + probability * advantage * step.score
        return total

    def perfect(self, within: Decay, across: Decay, level: Level = "token") -> Values:
        """What a critic that errs nowhere says in each state: the mean return from there on."""
        sums: dict[State, list[float]] = {}
        for probability, tokens in zip(self.probabilities, self.toy.episodes, strict=True):
            steps = self.steps(tokens, level)
            for step, value in zip(steps, self.returns(steps, within, across), strict=True):
                total = sums.setdefault(step.state, [0.0, 0.0])
                total[0] += probability * value
                total[1] += probability
        return {state: value / probability for state, (value, probability) in sums.items()}

    def whole(self) -> Tensor:
        """The gradient of E[sum of rewards], by automatic differentiation."""
        total = torch.zeros((), dtype=torch.float64)
        for tokens in self.toy.episodes:
            total = total + self.logprob(tokens).exp() * sum(reward or 0.0 for reward in self.toy.paid(tokens))
        grads = torch.autograd.grad(total, list(self.logits.values()), allow_unused=True)
        return torch.cat([torch.zeros(2, dtype=torch.float64) if grad is None else grad for grad in grads])
