"""The table of ways to give credit in docs/credit.md: bias by exact enumeration, variance on the embedded task.

    python benchmarks/credit_table.py                 # a few minutes of one core
    python benchmarks/credit_table.py --problems 8    # to see that it works

Bias: every group of three episodes of a policy that can be written out (tests/support/enumerated.py), |E[estimate] -
exact| / |exact|, and the same after the best rescaling of the estimate, which a learning rate would do. Variance: for
each problem two groups of eight episodes of the embedded policy; half the squared distance of their gradients, mean
over problems, over that of own reward with leave-one-out. Critics learn before that, the policy as it is, from
`LESSONS` batches of other problems. Writes benchmarks/results/credit-table.json and the table between the marks in
docs/credit.md; what was measured of critics is printed, and stands there in words.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from enumerated import Toy, to_go

from selfcorrect.agents.playing import EpisodeRules
from selfcorrect.settings import combine
from selfcorrect.tasks import CountdownTask
from selfcorrect.training import (
    DEMO,
    AnchorGroups,
    CheckerRewards,
    Episode,
    MultiTurn,
    Outcome,
    OwnCredit,
    Progress,
    ReturnToGo,
    TurnOutcome,
)
from selfcorrect.training.credit.estimators import credited
from selfcorrect.training.credit.settings import COMPARED, Baseline, CreditSettings
from selfcorrect.training.ppo.batching import RowTensors, call_table, placed_rows, row_tensors
from selfcorrect.training.ppo.config import CriticConfig
from selfcorrect.training.ppo.critic import Critic
from selfcorrect.training.ppo.player import EpisodePlayer
from selfcorrect.training.runs.opening import open_graph, open_policy, ppo_config

RESULTS = ROOT / "benchmarks" / "results" / "credit-table.json"
PAGE = ROOT / "docs" / "credit.md"
MARKS = ("<!-- table -->", "<!-- end of the table -->")
GROUP = 3
EPISODES = 8

Worth = Callable[[list[float]], list[float]]


@dataclass(frozen=True)
class Way:
    """One row: a credit, a baseline, and what is to be maximised."""

    credit: CreditSettings
    baseline: Baseline
    worth: Worth

    @property
    def name(self) -> str:
        given = self.credit.model_dump(exclude={"kind"}, exclude_defaults=True)
        options = ", ".join(f"{name} {value}" for name, value in given.items())
        return f"`{self.credit.kind}`" + (f" ({options})" if options else "")


def own(rewards: list[float]) -> list[float]:
    return rewards


def last(rewards: list[float]) -> list[float]:
    return [rewards[-1]] * len(rewards)


def twice(rewards: list[float]) -> list[float]:
    return [a + b for a, b in zip(to_go(rewards, 1.0), to_go(rewards, 0.95), strict=True)]


def with_outcome(rewards: list[float]) -> list[float]:
    return [reward + rewards[-1] for reward in rewards[:-1]] + [rewards[-1]]


LOO: tuple[Baseline, ...] = ("none", "leave_one_out", "leave_one_out_exact", "leave_one_out_same_state")
WAYS: Sequence[Way] = (
    *(Way(OwnCredit(), baseline, own) for baseline in (*LOO, "leave_one_out_given_previous")),  # type: ignore[arg-type]
    *(Way(OwnCredit(), baseline, own) for baseline in ("group_mean", "group_mean_std")),  # type: ignore[arg-type]
    Way(ReturnToGo(gamma=0.8), "leave_one_out", lambda rewards: to_go(rewards, 0.8)),
    Way(ReturnToGo(), "leave_one_out", lambda rewards: to_go(rewards, 1.0)),
    Way(ReturnToGo(), "leave_one_out_exact", lambda rewards: to_go(rewards, 1.0)),
    Way(Outcome(), "leave_one_out", last),
    Way(Outcome(), "group_mean_std", last),
    Way(Progress(), "leave_one_out", last),
    Way(Progress(), "leave_one_out_exact", last),
    Way(AnchorGroups(), "leave_one_out", twice),
    Way(AnchorGroups(divide_by_std=True), "leave_one_out", twice),
    Way(AnchorGroups(leave_one_out=True), "leave_one_out", twice),
    Way(TurnOutcome(divide_by_std=False), "leave_one_out", with_outcome),
    Way(TurnOutcome(), "leave_one_out", with_outcome),
    Way(TurnOutcome(divide_by_std=False, leave_one_out=True), "leave_one_out", with_outcome),
)


def bias(way: Way, *, fixed: bool) -> tuple[float, float]:
    """|E[estimate] - exact| / |exact|, over all groups of three episodes; and that of the best multiple of it."""
    gradient, exact = _expected(way, fixed=fixed)
    best = gradient * (gradient @ exact) / (gradient @ gradient)
    return float((gradient - exact).norm() / exact.norm()), float((best - exact).norm() / exact.norm())


def _expected(way: Way, *, fixed: bool) -> tuple[Tensor, Tensor]:
    toy = Toy(fixed=fixed)
    exact = toy.exact(way.worth)
    if way.baseline == "leave_one_out_given_previous":  # looks at other problems of the batch: all episodes once more
        company = list(range(len(toy.episodes)))
        total = torch.zeros_like(exact)
        for number, probability in enumerate(toy.probabilities.tolist()):
            table = toy.table([[number], company])
            advantages = credited(table, way.credit, way.baseline)[: len(toy.episodes[number])]
            total += probability * advantages @ torch.stack(toy.scores[number])
        return total, exact
    return toy.expected(lambda table: credited(table, way.credit, way.baseline), GROUP), exact


LESSONS = 24
"""Batches from which critics learn before their variance is measured."""
CRITICS: Mapping[str, CriticConfig] = {
    "token, cut between turns": CriticConfig(),
    "token, trace 1, cut between turns": CriticConfig(trace=1.0),
    "turn, cut between turns": CriticConfig(level="turn"),
    "token, across turns": CriticConfig(turn_discount=1.0),
    "turn, across turns": CriticConfig(level="turn", turn_discount=1.0),
}
"""Those that cut estimate what `own` does, the others what `return_to_go` does."""


def variances(problems: int) -> tuple[list[float], dict[str, float]]:
    """Of each way's gradient of one problem's eight episodes, by the embedded policy; and of each critic's."""
    settings = combine(DEMO, {}, [f"optimiser.problems_per_step={problems}"])
    task, policy = settings.task.open(), open_policy(settings.policy)
    graph = open_graph(settings, policy, task.checker)
    player = EpisodePlayer(
        policy,
        graph,
        lambda batch: CheckerRewards(MultiTurn(), task.checker),
        ppo_config(settings, Path("unused"), 1),
        None,
        None,
        None,
        EpisodeRules(),
    )
    asked = [problem for problem in task.problems("train", problems, seed=7) for _ in range(EPISODES)]
    halves = [player.play(asked, batch=batch, process=0) for batch in (0, 1)]
    tables = [call_table(half) for half in halves]
    advantages = [[credited(table, way.credit, way.baseline) for table in tables] for way in WAYS]
    critics = taught(player, task, problems, policy.model)
    totals, of_critics = [0.0] * len(WAYS), dict.fromkeys(critics, 0.0)
    for problem in range(problems):
        ones = [half[problem * EPISODES : (problem + 1) * EPISODES] for half in halves]
        starts = [table.offsets[problem * EPISODES] for table in tables]
        logprobs = [call_logprobs(policy.model, one) for one in ones]
        for number in range(len(WAYS)):
            sums = [
                (logprobs[half] * advantages[number][half][starts[half] :][: len(logprobs[half])]).sum()
                for half in (0, 1)
            ]
            totals[number] += 0.5 * float(squared_norm((sums[0] - sums[1]) / EPISODES, policy.model))
        for name, critic in critics.items():
            paid = [by_critic(policy.model, critic, one) for one in ones]
            of_critics[name] += 0.5 * float(squared_norm((paid[0] - paid[1]) / EPISODES, policy.model))
    return [total / problems for total in totals], {name: total / problems for name, total in of_critics.items()}


def call_logprobs(model: torch.nn.Module, episodes: Sequence[Episode]) -> Tensor:
    """(calls,) log-probability of what each call sampled, with gradient."""
    rows = rows_of(episodes)
    logprobs_RT, _ = read(model, rows)
    sampled = rows.calls_RT >= 0
    zeros = torch.zeros(int(rows.calls_RT.max()) + 1)
    return zeros.index_add(0, rows.calls_RT[sampled], logprobs_RT[sampled])


def rows_of(episodes: Sequence[Episode]) -> RowTensors:
    return row_tensors(placed_rows(episodes, call_table(episodes)), pad_id=0)


def read(model: Any, rows: RowTensors) -> tuple[Tensor, Tensor]:
    """Log-probability (R, T) of every sampled token, and the last hidden state (R, T, H) before it."""
    ids = torch.cat([rows.prompt_ids_RP, rows.completion_ids_RT], 1)
    mask = torch.cat([rows.prompt_mask_RP, rows.completion_mask_RT], 1)
    before = slice(rows.prompt_ids_RP.shape[1] - 1, -1)
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    logprobs = output.logits[:, before].float().log_softmax(-1)
    return logprobs.gather(-1, rows.completion_ids_RT[..., None])[..., 0], output.hidden_states[-1][:, before]


def taught(player: EpisodePlayer, task: CountdownTask, problems: int, model: Any) -> dict[str, Critic]:
    """The critics after `LESSONS` batches of problems that the variance is not measured on."""
    critics = {name: Critic(model.config.hidden_size, config) for name, config in CRITICS.items()}
    for lesson in range(LESSONS):
        asked = [problem for problem in task.problems("train", problems, seed=100 + lesson) for _ in range(EPISODES)]
        episodes = player.play(asked, batch=2 + lesson, process=0)
        rows = rows_of(episodes)
        with torch.no_grad():
            _, hidden = read(model, rows)
        losses = {name: critic.learn(hidden, rows, call_table(episodes))[1] for name, critic in critics.items()}
        print(f"lesson {lesson + 1} of {LESSONS}:", losses, file=sys.stderr, flush=True)
    return critics


def by_critic(model: Any, critic: Critic, episodes: Sequence[Episode]) -> Tensor:
    """Sum over the sampled tokens of log-probability times the advantage of the critic, which stays as it is."""
    rows = rows_of(episodes)
    logprobs, hidden = read(model, rows)
    advantages, _ = copy.deepcopy(critic).learn(hidden.detach(), rows, call_table(episodes))
    return (logprobs * advantages)[rows.calls_RT >= 0].sum()


def squared_norm(scalar: Tensor, model: torch.nn.Module) -> Tensor:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True)
    return torch.stack([grad.square().sum() for grad in grads if grad is not None]).sum()


def table_of(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| credit | baseline | bias, three turns | bias, one to three turns | variance |", "|---|---|---|---|---|"]
    for row in rows:
        biases = " | ".join(_words(*row[length]) for length in ("fixed", "varying"))
        lines.append(f"| {row['credit']} | {row['baseline']} | {biases} | {row['variance']:.2f} |")
    return "\n".join(lines)


def _words(bias: float, rescaled: float) -> str:
    return "**exact**" if bias < 1e-9 else f"{bias:.3f} ({rescaled:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=48)
    problems = parser.parse_args().problems
    measured, of_critics = variances(problems)
    reference = measured[[way.baseline for way in WAYS].index("leave_one_out")]
    rows = [
        {
            "credit": way.name,
            "baseline": f"`{way.baseline}`" if way.credit.kind in COMPARED else "its own",
            "fixed": bias(way, fixed=True),
            "varying": bias(way, fixed=False),
            "variance": variance / reference,
        }
        for way, variance in zip(WAYS, measured, strict=True)
    ]
    critics = {name: variance / reference for name, variance in of_critics.items()}
    whole = {"problems": problems, "episodes": EPISODES, "rows": rows, "critics": critics}
    RESULTS.write_text(json.dumps(whole, indent=2) + "\n")
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.partition(MARKS[0])[0], page.partition(MARKS[1])[2]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{table_of(rows)}\n\n{MARKS[1]}{after}", encoding="utf-8")
    print(table_of(rows))
    print("critics:", ", ".join(f"{name} {variance:.2f}" for name, variance in critics.items()))


if __name__ == "__main__":
    main()
