"""Are all references of MATH and GSM8K usable, and does copying the question pay?

    python benchmarks/math_data.py --math math.json --gsm8k gsm8k.json

Both are JSON Lines: of problem and solution, of question and answer.

Counted for each file, with the default rules (those of training) and the question known to the checker:

- usable: references that `validate_reference` accepts, given as the whole worked solution;
- gold: the worked solution as the response is correct;
- plain: the marked answer alone, in a sentence "The answer is ...", and in dollar signs, are each correct;
- copies: questions of which the last formula, boxed, is correct although nothing was worked out; and any formula of it;
- blind: the same last formulas, with a checker that is not told the question.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

from selfcorrect.rewards.maths import MathChecker
from selfcorrect.rewards.maths.finding.boxes import FORMULA
from selfcorrect.rewards.maths.references import read_reference


def rows_of(path: Path) -> list[tuple[str, str]]:
    """Question and worked solution."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(row.get("problem") or row["question"], row.get("solution") or row["answer"]) for row in rows]


def formulas_of(question: str) -> list[str]:
    return [
        next(group for group in match.groups() if group is not None).strip() for match in FORMULA.finditer(question)
    ]


def count(rows: list[tuple[str, str]], checker: MathChecker, *, shown: int) -> Counter[str]:
    found: Counter[str] = Counter(rows=len(rows))
    for question, solution in rows:
        fault = checker.validate_reference(solution)
        found["usable"] += fault is None
        if fault is not None:
            print("unusable:", fault)
            continue
        text = read_reference(solution).text
        found["gold"] += checker.check_sync(solution, solution, problem=question).correct
        forms = [text, f"The answer is {text}.", f"Therefore the answer is ${text}$.", rf"\boxed{{{text}}}"]
        verdicts = [checker.check_sync(form, solution, problem=question) for form in forms]
        found["plain"] += all(verdict.correct for verdict in verdicts)
        for form, verdict in zip(forms, verdicts, strict=True):
            if not verdict.correct and found["lost"] < shown:
                found["lost"] += 1
                print(f"lost: {form!r} read as {verdict.answer!r}: {verdict.reason}")
        formulas = formulas_of(question)
        paid = [checker.check_sync(rf"\boxed{{{one}}}", solution, problem=question).correct for one in formulas]
        if paid and paid[-1] and found["copies"] < shown:
            print(f"copied: {formulas[-1]!r} for {text!r}")
        found["copies"] += bool(paid and paid[-1])
        found["any copy"] += any(paid)
        found["blind"] += bool(formulas) and checker.check_sync(rf"\boxed{{{formulas[-1]}}}", solution).correct
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--math", type=Path, help="MATH's test split")
    arguments.add_argument("--gsm8k", type=Path, help="GSM8K's test split")
    arguments.add_argument("--shown", type=int, default=20, help="losses and copies printed at most")
    chosen = arguments.parse_args()
    with MathChecker() as checker:
        for name in ("math", "gsm8k"):
            if (path := getattr(chosen, name)) is not None:
                print(name, dict(count(rows_of(path), checker, shown=chosen.shown)))


if __name__ == "__main__":
    main()
