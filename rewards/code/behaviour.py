"""What programs do: the outcomes of calls, by which a vote tells programs apart whose texts differ (Shi et al. 2022,
"Natural Language to Code Translation with Execution", arXiv 2204.11454).

A driver runs in the jail, in the program's own process: a program could tell it whatever it likes. That is no harm to a
vote, where it could as well have written another program; it is why no verdict is made of this.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from selfcorrect.rewards.code.scripts import run_script
from selfcorrect.rewards.sandbox.zygote_pair import ZygotePair

LATE = "no result in time"
_LONGEST_TOLD = 60
_MOST_PRINTED = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one expression.

    Attributes:
        expression: what was evaluated.
        told: its value as Python writes it, without what says nothing (2.0 is 2, sets and keys in order); or the kind
            of its exception, or `LATE`.
        is_value: whether there was a value.
    """

    expression: str
    told: str
    is_value: bool

    def __str__(self) -> str:
        return f"{self.expression} = {self.told}" if self.is_value else f"{self.expression}: {self.told}"


def outcomes_of(pair: ZygotePair, program: str, expressions: Sequence[str], seconds: float) -> list[Outcome] | None:
    """What `expressions` come to after `program` was run, in one process and `seconds` at most for all of them.

    Returns:
        One outcome an expression; None if the machine was too busy to run them.

    Raises:
        ZygoteLost: a process was killed from outside.
    """
    given = json.dumps({"program": program, "expressions": list(expressions), "longest": _LONGEST_TOLD})
    run = run_script(pair, _DRIVER, given, seconds, _MOST_PRINTED)
    if run.starved:
        return None
    rows = [row for line in run.printed.splitlines() if (row := _row(line)) is not None][: len(expressions)]
    told = [*rows, *([(LATE if run.timed_out else "the program ended", False)] * (len(expressions) - len(rows)))]
    return [Outcome(expression, *one) for expression, one in zip(expressions, told, strict=True)]


def _row(line: bytes) -> tuple[str, bool] | None:
    try:
        match json.loads(line):
            case [str(told), bool(is_value)]:
                return told, is_value
    except ValueError:  # a line that was cut off when time was up
        pass
    return None


_DRIVER = """
import hashlib, io, json, math, sys, types


class Nowhere(io.TextIOBase):
    def write(self, text):
        return len(text)


given = json.loads(sys.stdin.read())
tell = sys.stdout
sys.stdin, sys.stdout = io.StringIO(), Nowhere()


def shown(value, depth=0):
    if depth > 20:
        return "..."
    if isinstance(value, float) and math.isfinite(value):
        return repr(int(value)) if value == int(value) else f"{value:.9g}"
    if isinstance(value, (str, bytes, bool, int, complex, float, type(None))):
        return repr(value)
    if isinstance(value, (list, tuple)):
        inside = ", ".join(shown(one, depth + 1) for one in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside},)"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(shown(one, depth + 1) for one in value)) + "}"
    if isinstance(value, dict):
        pairs = (f"{shown(key, depth + 1)}: {shown(one, depth + 1)}" for key, one in value.items())
        return "{" + ", ".join(sorted(pairs)) + "}"
    return f"a {type(value).__name__}"


def short(text):
    if len(text) <= given["longest"]:
        return text
    return text[: given["longest"]] + "... #" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]


def outcome(expression):
    try:
        return [short(shown(eval(expression, names))), True]
    except BaseException as error:
        return [type(error).__name__, False]


program = types.ModuleType("program")
sys.modules["program"] = program
names = program.__dict__
try:
    exec(compile(given["program"], "program.py", "exec", dont_inherit=True), names)
except BaseException:
    pass  # what it has defined until then can still be called
names.setdefault("math", math)
for expression in given["expressions"]:
    print(json.dumps(outcome(expression)), file=tell, flush=True)
"""
