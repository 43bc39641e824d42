"""The committed comparison of policies that look at their answers again and again.

    python benchmarks/looks.py --model embedded --runs runs/looks --seeds 5

Seed by seed and arm by arm; what is finished in the folder is not done again, and Ctrl-C loses nothing. Further seeds
of a run whose folder is gone: `--first-seed N --out FILE`, then `more_seeds.py` joins FILE to the results. `--arms`
takes the names of ABLATIONS too: judge-then-act with one of its parts changed. All arms sample about as many tokens in
training: those of two turns are trained on two, the others on up to eight, of which each episode draws how many it may
have, so fewer problems a step. All are evaluated over the same number of turns. Beside them, with their test tokens,
votes of answers of the base. Writes benchmarks/results/looks.json. `--collect` only writes what is finished; `--quick`
is to see that it works, and writes its results into the folder of the runs.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfcorrect.agents import answer_key
from selfcorrect.agents.episodes import play_sync
from selfcorrect.agents.evaluation import judge, run_blocking, share, wilson
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.state import answers, tokens_of, verdict_of
from selfcorrect.files import write_whole
from selfcorrect.settings import combine
from selfcorrect.tasks.problem import Problem
from selfcorrect.training import DEMO, Comparison, arm_specs, run_comparison
from selfcorrect.training.arms.budgets import Costs, measured_costs
from selfcorrect.training.arms.specs import ArmSpec, self_judging_loop, usual_episode
from selfcorrect.training.compare.comparison import SilentComparison, evaluation_of, plan_budgets
from selfcorrect.training.compare.report import difference_text, markdown_table
from selfcorrect.training.compare.result import write_comparison
from selfcorrect.training.runs.opening import open_graph, open_policy
from selfcorrect.training.runs.progress import ProgressSink, SilentProgress
from selfcorrect.training.settings import RunSettings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "looks.json"

JUDGING_BASE = ArmSpec("judging-base", "the untrained policy, which stops by its own word", self_judging_loop, reads=())
TWO_TURNS = ("base", JUDGING_BASE.name, "multi-turn", "score")
MANY_TURNS = ("pag", "judge-then-act", "s2r", "self-rewarding", "ufo", "reflect-retry", "murphy", "cocos")
ABLATIONS: Mapping[str, tuple[str, Sequence[str]]] = {
    "no-balance": ("judge-then-act, c = 1", ("looks.balanced=false",)),
    "no-cost": ("judge-then-act, kappa = 0", ("looks.turn_cost=0",)),
    "no-warm-up": ("judge-then-act without imitation first", ("looks.warm_up_steps=0",)),
    "repeat-cost": ("judge-then-act, nu = 1", ("looks.repeat_cost=1",)),
    "return-to-go": ("judge-then-act, verdicts are paid for what came of them", ("credit.kind=return_to_go",)),
}
"""By name: what it is, and what it changes of judge-then-act."""
AS_MADE = ("optimiser.adam_beta2=0.999",)
"""The demo's when the results were made."""
LONG = ("graph.revisions=8", "graph.fewest_revisions=1")
REFERENCE = "judge-then-act"
VOTES = (1, 2, 4, 8, 16)
QUICK = ("score.stage_one_steps=2", "score.stage_two_steps=2", "optimiser.problems_per_step=8", "looks.warm_up_steps=1")


class Lines(SilentComparison):
    """One line a part."""

    def begin(self, arm: str, seed: int, part: int, parts: int) -> ProgressSink:
        print(f"{time.strftime('%H:%M:%S')} [{part}/{parts}] {arm}, seed {seed}", file=sys.stderr, flush=True)
        return SilentProgress()


def settings_of(arguments: argparse.Namespace) -> RunSettings:
    changes = [f"policy.model={arguments.model}", f"evaluation.revisions={arguments.revisions}", *arguments.set]
    return combine(DEMO, {}, [*AS_MADE, *changes, *(QUICK if arguments.quick else ())], source="benchmarks/looks.py")


def comparison_of(
    arms: Sequence[str], seeds: Sequence[int], settings: RunSettings, costs: Costs, problems: int
) -> Comparison:
    specs = [spec_of(arm) for arm in arms]
    long = [spec for spec in specs if spec.name in (*MANY_TURNS, *ABLATIONS)]
    overrides = {spec.name: [*long_episodes(spec, settings, costs), *changed_by(spec.name)] for spec in long}
    return Comparison(specs, settings, seeds, problems, temperature=0.7, overrides=overrides, allow_unequal=True)


def spec_of(arm: str) -> ArmSpec:
    if arm == JUDGING_BASE.name:
        return JUDGING_BASE
    (spec,) = arm_specs([REFERENCE if arm in ABLATIONS else arm])
    return dataclasses.replace(spec, name=arm, says=ABLATIONS[arm][0]) if arm in ABLATIONS else spec


def changed_by(arm: str) -> Sequence[str]:
    return ABLATIONS[arm][1] if arm in ABLATIONS else ()


def long_episodes(spec: ArmSpec, settings: RunSettings, costs: Costs) -> list[str]:
    """Up to eight revisions, and as many problems a step as cost what two turns of all the usual ones do."""
    changed = combine(settings, {}, LONG, source=spec.name)
    ratio = usual_episode(settings, costs) / usual_episode(changed, costs)
    problems = max(2, round(spec.fitted(changed, costs).optimiser.problems_per_step * ratio))
    return [*LONG, f"optimiser.problems_per_step={problems}", "optimiser.baseline=leave_one_out"]


def votes_of_the_base(settings: RunSettings, problems: Sequence[Problem], seed: int) -> dict[str, Any]:
    """A vote of N first answers, drawn at temperature 1: accuracy and test tokens, for every N of `VOTES`."""
    task, policy = settings.task.open(), open_policy(settings.policy)
    graph = settings.graph.model_copy(update={"revisions": 0})
    alone = open_graph(settings.model_copy(update={"graph": graph}), policy, task.checker)
    most = max(VOTES)
    asked = [problem for problem in problems for _ in range(most)]
    states = [
        run_blocking(judge(state, task.checker)) for state in play_sync(alone, asked, sampling=Sampling(), seed=seed)
    ]
    drawn = [answers(state)[0] for state in states]
    found = {}
    for count in VOTES:
        right, tokens = 0, 0
        for number, problem in enumerate(problems):
            turns = drawn[number * most : number * most + count]
            tokens += sum(tokens_of(turn["generation"]) for turn in turns)
            key = answer_key(problem)
            keys = [key(turn["generation"]["text"]) for turn in turns]
            counted = Counter(one for one in keys if one is not None)
            chosen = counted.most_common(1)[0][0] if counted else None  # the first of equals: the earliest drawn
            verdicts = [verdict_of(turn) for turn, one in zip(turns, keys, strict=True) if one == chosen is not None]
            right += bool(verdicts) and verdicts[0] is not None and verdicts[0].correct
        interval = wilson(right, len(problems))
        found[str(count)] = {
            "accuracy": share(right, len(problems)),
            "interval": list(interval),
            "tokens": tokens / len(problems),
        }
    return found


def write_results(comparison: Comparison, runs: Path, votes: Mapping[str, Any], out: Path) -> Mapping[str, Any]:
    """Everything that is finished in `runs`, as the file `out`."""
    reference = REFERENCE if any(spec.name == REFERENCE for spec in comparison.arm_specs) else "base"
    result = write_comparison(comparison, runs, plan_budgets(comparison, runs)[1], reference=reference)
    whole = {**result, "votes_of_the_base": votes}
    write_whole(out, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded", help="a policy that was made for many turns")
    parser.add_argument("--arms", default=",".join(TWO_TURNS + MANY_TURNS))
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--problems", type=int, default=2000)
    parser.add_argument("--revisions", type=int, default=16, help="of the evaluation")
    parser.add_argument("--runs", type=Path, default=Path("runs/looks"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--collect", action="store_true", help="only write the results of what is finished")
    arguments = parser.parse_args()
    settings, runs = settings_of(arguments), arguments.runs
    runs.mkdir(parents=True, exist_ok=True)
    costs = measured_costs(combine(settings, {}, LONG, source=__doc__), runs / "costs.json", judges_itself=True)
    arms, seeds = arguments.arms.split(","), [arguments.first_seed + number for number in range(arguments.seeds)]
    if not arguments.collect:
        for seed in seeds:
            run_comparison(comparison_of(arms, [seed], settings, costs, arguments.problems), runs, Lines())
    done = [arm for arm in arms if any(evaluation_of(runs, arm, seed, "greedy") for seed in seeds)]
    comparison = comparison_of(done, seeds, settings, costs, arguments.problems)
    kept = runs / "votes.json"
    if not kept.is_file():
        problems = settings.task.open().problems("test", arguments.problems, seed=settings.evaluation.seed)
        write_whole(kept, json.dumps(votes_of_the_base(settings, problems, seed=0)) + "\n")
    out = runs / "looks.json" if arguments.quick else arguments.out
    result = write_results(comparison, runs, json.loads(kept.read_text(encoding="utf-8")), out)
    for way in ("greedy", "sampled"):
        print(f"{way}\n{markdown_table(result, way)}")
        for figure, tests in result[f"{way}_tests"].items():
            for arm, test in tests.items():
                print(difference_text(result["reference"], arm, figure, test))
    print("votes of the base's answers:", json.dumps(result["votes_of_the_base"]))


if __name__ == "__main__":
    main()
