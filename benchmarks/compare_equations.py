"""The arms on a second task: equations in positive whole numbers, with a policy made for them.

    python benchmarks/compare_equations.py --seeds 3 --problems 1000 --set score.stage_one_steps=12 --set
    score.stage_two_steps=36 \\
        --set score.beta_first=0.05 --set optimiser.problems_per_step=16 --set optimiser.learning_rate=2.5e-4 --set
        evaluation.problems=200

Makes the policy if it is not there, compares the arms from it at equal cost, and writes
benchmarks/results/compare-equations.json. What is finished is not done again. The line above made the committed result:
a third of the demo's steps, each of half its episodes at half its rate.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from selfcorrect.agents.evaluation import evaluate
from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.prompts import PLAIN, prompts_of
from selfcorrect.tasks.equations import EquationsTask

RESULT = Path(__file__).parent / "results" / "compare-equations.json"
ARMS = "base,single-turn,multi-turn,score"


def make_policy(folder: Path) -> None:
    """Pre-train the base by its recipe."""
    if not (folder / "recipe.json").exists():
        module = "selfcorrect.training.pretraining.pretrain"
        subprocess.run([sys.executable, "-m", module, "--task", "equations", "--out", str(folder)], check=True)


def sampled_base(folder: Path, problems: int) -> dict[str, object]:
    """The base at temperature 1: what training begins with."""
    policy = TransformersPolicy.from_pretrained(folder, max_new_tokens=40)
    task = EquationsTask()
    graph = build_graph(policy, prompts=prompts_of(policy, english=PLAIN))
    report, _ = evaluate(graph, task.problems("test", problems), task.checker, sampling=Sampling())
    return report.as_dict()


def compare(policy: Path, out: Path, arguments: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "selfcorrect", "compare", "--task", "equations", "--arms", arguments.arms]
    command += ["--seeds", str(arguments.seeds), "--out", str(out), "--set", f"policy.model={policy}"]
    for change in arguments.set or []:
        command += ["--set", change]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/equations"))
    parser.add_argument("--policy", type=Path, help="the base; by default made in the folder of the runs")
    parser.add_argument("--arms", default=ARMS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting of all arms")
    parser.add_argument("--problems", type=int, default=2000, help="of the base's evaluation at temperature 1")
    arguments = parser.parse_args()
    policy = arguments.policy or arguments.runs / "base"
    make_policy(policy)
    compare(policy, arguments.runs / "compare", arguments)
    result = json.loads((arguments.runs / "compare" / "compare.json").read_text())
    result["policy"] = json.loads((policy / "recipe.json").read_text())
    result["base_at_temperature_1"] = sampled_base(policy, arguments.problems)
    result["changed_settings"] = arguments.set or []
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
