"""What V-STaR's rounds are worth: the generator of each round on held-out problems, alone and with the verifier.

    python benchmarks/vstar_rounds.py --runs runs/vstar --seeds 0 1 2

Three rounds on 2,000 training problems with 16 answers each (the defaults of `selfcorrect train vstar`, likelihood
verifier only), then 16 answers of every round's generator to 1,000 held-out problems. Runs and pools that are there are
not made again. Writes benchmarks/results/vstar_rounds.json.
"""

import argparse
import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

from selfcorrect.agents.choosing.sample_pool import read_pool, sample_pool, write_pool
from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.rewards.verifiers.kinds import load_verifier
from selfcorrect.settings import combine
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import DEMO
from selfcorrect.training.vstar.measuring import verifier_figures, with_answer_keys
from selfcorrect.training.vstar.rounds import vstar

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "vstar_rounds.json"
SETTINGS = ("vstar.kinds=[likelihood]",)
PROBLEMS, ANSWERS = 1000, 16
FIGURES = ("pass@1", "majority", "best", "oracle")


def run(runs: Path, seed: int) -> RunDirectory:
    """The finished run of a seed, trained now if it is not there."""
    directory = RunDirectory(runs / f"seed-{seed}")
    if directory.read_final() is None:
        settings = combine(DEMO, {}, SETTINGS).model_copy(update={"seed": seed})
        vstar(settings, out=directory.path, resume=directory.config_path.exists())
    return directory


def round_figures(directory: RunDirectory, number: int, seed: int) -> dict[str, float]:
    """Of the generator after round `number` (0 is the base), on held-out problems."""
    task = CountdownTask(4)
    problems = task.problems("test", PROBLEMS, seed=seed)
    path = directory.path / f"generator-{number}-held-out.jsonl"
    if not path.exists():
        folder = embedded_folder() if number == 0 else directory.path / "rounds" / str(number) / "generator"
        policy = TransformersPolicy.from_pretrained(folder, max_new_tokens=24)
        sampling = Sampling()
        drawn = sample_pool(
            policy, problems, task.checker, per_problem=ANSWERS, prompts=COUNTDOWN, sampling=sampling, seed=seed
        )
        write_pool(path, asyncio.run(drawn))
    pool = with_answer_keys(read_pool(path), problems)
    verifier = load_verifier(directory.path / "verifiers" / "likelihood")
    choosing = verifier_figures(verifier, pool)["choosing"]
    all_of_them = choosing[str(ANSWERS)]
    return {
        "pass@1": choosing["1"]["oracle"]["mean"],
        "majority": all_of_them["majority"]["mean"],
        "best": all_of_them["best_of_k"]["mean"],
        "oracle": all_of_them["oracle"]["mean"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/vstar"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    by_seed: dict[int, list[dict[str, float]]] = {}
    greedy = []
    for seed in arguments.seeds:
        directory = run(arguments.runs, seed)
        final: dict[str, Any] = directory.read_final() or {}
        greedy.append({when: final[when]["accuracy_t1"] for when in ("before", "after")})
        rounds = combine(DEMO, {}, SETTINGS).vstar.rounds
        by_seed[seed] = [round_figures(directory, number, seed) for number in range(rounds + 1)]
        for number, figures in enumerate(by_seed[seed]):
            print(
                f"seed {seed}, round {number}: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            )
    table = [
        {
            name: {
                "mean": statistics.fmean(rows[number][name] for rows in by_seed.values()),
                "sd": statistics.stdev([rows[number][name] for rows in by_seed.values()]) if len(by_seed) > 1 else None,
            }
            for name in FIGURES
        }
        for number in range(len(next(iter(by_seed.values()))))
    ]
    result = {"problems": PROBLEMS, "answers": ANSWERS, "seeds": by_seed, "greedy": greedy, "rounds": table}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for number, row in enumerate(table):
        print(f"round {number}: " + "  ".join(f"{name} {row[name]['mean']:.3f}" for name in FIGURES))


if __name__ == "__main__":
    main()
