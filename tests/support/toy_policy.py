"""A two-turn policy small enough to write out every episode, for gradients without sampling error."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.recording import PolicyCall
from selfcorrect.agents.state import Generation
from selfcorrect.rewards.shaping import Score
from selfcorrect.tasks.problem import Problem
from selfcorrect.training.ppo.objectives import Objective, TurnSignal
from selfcorrect.training.ppo.rollouts import Episode

VOCABULARY = 3
TURN = 2
"""Tokens per turn."""
PROMPT = 7
AGAIN = 8
"""Ids of the prompt and of the instruction between the turns; the policy samples only 0, 1, 2."""

ANSWERS = list(itertools.product(range(VOCABULARY), repeat=TURN))
PROBLEM = Problem(id="toy", prompt="?", reference=None, checker="none")


class TabularPolicy:
    """Logits from a table indexed by every token sampled so far: `table[position]` has shape (3 ** position, 3)."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.tables = [
            (
                scale * torch.randn(VOCABULARY**position, VOCABULARY, generator=generator, dtype=torch.float64)
            ).requires_grad_()
            for position in range(2 * TURN)
        ]

    def token_logprobs(self, sampled: Sequence[int]) -> Tensor:
        """(len(sampled),) log-probability of each token given the ones before it."""
        rows, history = [], 0
        for position, token in enumerate(sampled):
            rows.append(self.tables[position].log_softmax(-1)[history, token])
            history = history * VOCABULARY + token
        return torch.stack(rows)

    def gradient_of(self, scalar: Tensor) -> Tensor:
        grads = torch.autograd.grad(scalar, self.tables, allow_unused=True, retain_graph=True)
        return torch.cat(
            [
                (torch.zeros_like(table) if grad is None else grad).flatten()
                for table, grad in zip(self.tables, grads, strict=True)
            ]
        )


EPISODES = [(first, second) for first in ANSWERS for second in ANSWERS]


def first_score(first: tuple[int, ...]) -> float:
    return float(sum(first) % 2 == 0)


def second_score(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    return float((first[0] + 2 * second[0] + second[1]) % 3 == 0)


def call(prompt: list[int], completion: Sequence[int], logprobs: Tensor) -> PolicyCall:
    generation = Generation(
        text="",
        messages=[],
        prompt_ids=prompt,
        completion_ids=list(completion),
        logprobs=logprobs.tolist(),
        finish_reason="stop",
    )
    return PolicyCall("node", "", generation, Sampling())


def episode(policy: TabularPolicy, first: tuple[int, ...], second: tuple[int, ...], objective: Objective) -> Episode:
    """One played episode with its signals, as rollouts would make it."""
    logprobs = policy.token_logprobs([*first, *second]).detach()
    calls = [
        call([PROMPT], first, logprobs[:TURN]),
        call([PROMPT, *first, AGAIN], second, logprobs[TURN:]),
    ]
    scores: list[Score] = [first_score(first), second_score(first, second)]
    rewards = objective.answer_rewards(scores)
    signals = [
        TurnSignal(rewards[turn], objective.kl_coefficient(turn, 2), scores[0] if turn else None, f"answer {turn + 1}")
        for turn in range(2)
    ]
    return Episode(PROBLEM, {}, calls, signals, scores)


def exact_objective(
    policy: TabularPolicy,
    reference: TabularPolicy,
    reward_one: Callable[[float, float], float],
    reward_two: Callable[[float, float], float],
    beta_one: float,
    beta_two: float,
) -> Tensor:
    """SCoRe's objective with credit per turn, by enumeration: a scalar whose gradient is the exact policy gradient.

    Each turn's term sees the other turn's distribution as given (discount 0 between turns), so the first turn's
    probabilities are detached in the second term; rewards are functions of (r1, r2).
    """
    total = torch.zeros((), dtype=torch.float64)
    for first in ANSWERS:
        log_p1 = policy.token_logprobs(first).sum()
        kl_one = log_p1 - reference.token_logprobs(first).sum().detach()
        total = total + log_p1.exp() * (reward_one(first_score(first), 0.0) - beta_one * kl_one)
        for second in ANSWERS:
            log_p2 = policy.token_logprobs([*first, *second])[TURN:].sum()
            kl_two = log_p2 - reference.token_logprobs([*first, *second])[TURN:].sum().detach()
            reward = reward_two(first_score(first), second_score(first, second))
            total = total + log_p1.exp().detach() * log_p2.exp() * (reward - beta_two * kl_two)
    return total
