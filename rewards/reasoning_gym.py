"""The judge of reasoning-gym's problems: the data set's own scorer, in a killable worker, behind a guard.

Some of its scorers hand the answer to `eval` or to sympy's parser. They are asked only about answers that are plain
literals, or arithmetic of known names; see `_guarded`. A data set whose module evaluates text, and which is not listed
here, is refused: a later version of the library may bring one.
"""

import ast
import asyncio
import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from selfcorrect.errors import CheckerError
from selfcorrect.rewards.checker import Status, Verdict
from selfcorrect.rewards.worker_pool import Outcome, WorkerPool

HANDLER = "selfcorrect.rewards.reasoning_gym:scored"

LITERALS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Their scorers evaluate the answer, to accept a Python list (for a tenth or a half of the reward)."""
EXPRESSIONS = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
"""Their scorers hand the answer to sympy's `parse_expr`, which evaluates it."""
COMPARED = frozenset({"game_of_life_halting"})
"""Their scorers pay in full what is no answer ("zzz" for True): here the answer must be the gold one."""
READ = frozenset({"basic_arithmetic", "bitwise_arithmetic", "codeio", "gsm_symbolic", "number_sorting"})
"""Their modules evaluate texts of their own only (read in version 0.1.25)."""

_EVALUATING = frozenset({"eval", "exec", "parse_expr", "sympify"})
_FUNCTIONS = frozenset(
    {"sin", "cos", "tan", "exp", "log", "ln", "sqrt", "asin", "acos", "atan", "sinh", "cosh", "tanh", "Abs", "pi", "E"}
    | {"C"}  # the constant of an integral
)
_TOKEN = re.compile(r"\s*(?:(\d{1,12}(?:\.\d{1,12})?)|([A-Za-z]\w*)|(\*\*|[-+*/()]))")
_MOST_CHARACTERS = 2_000
_SUCCESS = 1.0 - 1e-9


class ReasoningGymChecker:
    """Judges an answer against `{"dataset", "config", "entry"}`, as `ReasoningGymTask` writes them.

    The answer is what stands in the last `<answer>...</answer>`, else in the last `\\boxed{...}`, else behind the last
    "Answer:" of a line; none of them is UNREADABLE. CORRECT is the scorer's full reward. What the scorers pay less
    for (a form that can be read, a similar answer, an answer among others) is WRONG.

    Args:
        partial: WRONG verdicts carry the scorer's reward as their score, less what it pays for no answer at all.
        deadline: seconds for one answer. One that keeps the scorer busy for longer is WRONG.
        workers: how many processes at most; None means the number of processors, at most 4.
    """

    def __init__(self, *, partial: bool = False, deadline: float = 10.0, workers: int | None = None) -> None:
        self._partial = partial
        self._pool = WorkerPool(HANDLER, workers=workers, deadline=deadline, memory_mb=3072)

    def check_sync(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """Judge `response`; blocks until a worker has. The reference holds the question."""
        begun = time.perf_counter()
        answer = found_answer(response)
        if answer is None:
            return Verdict(Status.UNREADABLE, None, "no <answer>...</answer> was found", time.perf_counter() - begun)
        outcome = self._pool.run({**reference, "answer": answer, "partial": self._partial})
        return self._verdict(outcome, answer, time.perf_counter() - begun)

    async def check(self, response: str, reference: Mapping[str, Any], *, problem: str | None = None) -> Verdict:
        """As `check_sync`, in a thread."""
        return await asyncio.to_thread(self.check_sync, response, reference, problem=problem)

    def validate_reference(self, reference: Any) -> str | None:
        """Why `reference` is no entry of a data set whose scorer can be asked, or None."""
        if not isinstance(reference, Mapping) or not {"dataset", "config", "entry"} <= set(reference):
            return "expected {'dataset': NAME, 'config': {...}, 'entry': {...}}"
        gold = from_plain(reference["entry"]).get("answer")
        if gold is None:
            return None  # a few data sets have no gold answer, only a scorer
        outcome = self._pool.run({**reference, "answer": gold, "partial": False})
        if outcome.kind != "done":
            return f"its scorer fails on its own answer: {outcome.result}"
        return None if outcome.result["score"] >= _SUCCESS else f"its scorer does not accept its own answer {gold!r}"

    def answer_key(self, response: str, problem: str) -> str | None:
        """The answer that is marked, for votes."""
        return found_answer(response)

    def close(self) -> None:
        """End the workers; they start anew when they are needed again."""
        self._pool.close()

    def _verdict(self, outcome: Outcome, answer: str, seconds: float) -> Verdict:
        if outcome.kind == "done":
            score, floor = outcome.result["score"], outcome.result["floor"]
            if score >= _SUCCESS:
                return Verdict(Status.CORRECT, answer, "", seconds)
            share = max(0.0, (score - floor) / (1.0 - floor)) if self._partial and floor < 1 else None
            return Verdict(Status.WRONG, answer, outcome.result["reason"], seconds, share)
        busy = outcome.kind == "timed out" and outcome.kept_busy
        if busy or outcome.kind == "crashed" or outcome.result in ("MemoryError", "RecursionError"):
            return Verdict(Status.WRONG, answer, f"too costly for the scorer: {outcome.result}", seconds)
        return Verdict(Status.UNJUDGED, None, f"the scorer failed: {outcome.result}", seconds)


# The answer in a response.

_MARKS = (
    re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL),
    re.compile(r"\\boxed\{([^{}]*)\}"),
    re.compile(r"^\W*(?:final )?answer\W*:\W*?(\S.*?)\W*$", re.IGNORECASE | re.MULTILINE),
)


def found_answer(response: str) -> str | None:
    """The answer that `response` marks; None if it marks none. A thinking section does not count."""
    text = response.rpartition("</think>")[2]
    if "<think>" in text:
        return None
    for mark in _MARKS:
        found = mark.findall(text)
        if found:
            return str(found[-1]).strip() or None
    return None


# In the worker.


def scored(job: Mapping[str, Any], stage: Callable[[str], None]) -> dict[str, Any]:
    """The reward of an answer by the data set's own scorer, and what it pays for no answer ("floor")."""
    name, answer = job["dataset"], job["answer"]
    entry = from_plain(job["entry"])
    if name in COMPARED:
        right = answer.strip().lower() == str(entry["answer"]).strip().lower()
        return {"score": float(right), "floor": 0.0, "reason": "" if right else "it is not the answer"}
    refusal = _guarded(name, answer, entry)
    if refusal:
        return {"score": 0.0, "floor": 0.0, "reason": refusal}
    dataset = opened(name, from_plain(job["config"]))
    score = _reward(dataset, answer, entry)
    floor = max(_reward(dataset, junk, entry) for junk in ("?", "no")) if job["partial"] else 0.0
    return {"score": score, "floor": floor, "reason": f"the scorer of {name} does not accept it"}


def _reward(dataset: Any, answer: str, entry: Mapping[str, Any]) -> float:
    """What the scorer pays. Where it fails on the gold answer too it is at fault, which raises: the answer abstains."""
    try:
        return float(dataset.score_answer(answer, entry))
    except (MemoryError, RecursionError):
        raise
    except Exception:  # noqa: BLE001 - they raise whatever an answer of another form makes them raise: it is no answer
        if entry.get("answer") is not None:
            dataset.score_answer(entry["answer"], entry)
        return 0.0


def opened(name: str, config: Mapping[str, Any]) -> Any:
    """The data set called `name`, made with `config`; the last few are kept.

    Raises:
        CheckerError: there is none, it does not take the configuration, or it may run what a policy wrote.
    """
    return _opened(name, json.dumps(to_plain(config), sort_keys=True))


@lru_cache(maxsize=16)
def _opened(name: str, config: str) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        from selfcorrect.distribution import install_command

        raise CheckerError(f"reasoning-gym is not installed: {install_command('reasoning-gym')}") from error
    if name == "composite":
        raise CheckerError("composite mixes data sets, whose scorers are read one by one: name one of them")
    if name not in DATASETS:
        raise CheckerError(f"reasoning-gym has no data set {name!r}; it has {', '.join(sorted(DATASETS))}")
    known = LITERALS | EXPRESSIONS | COMPARED | READ
    if name not in known and _evaluates(inspect.getsource(sys.modules[DATASETS[name][0].__module__])):
        raise CheckerError(f"{name}: its scorer may run what a policy wrote, and nobody has read it for selfcorrect")
    try:
        return reasoning_gym.create_dataset(name, **from_plain(json.loads(config)))
    except (TypeError, AssertionError, ValueError) as error:
        raise CheckerError(f"reasoning-gym's {name} does not take {config}: {error}") from error


def _evaluates(source: str) -> bool:
    """Whether a module calls what runs text, other than a function of its own of that name."""
    tree = ast.parse(source)
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
    return bool((named & _EVALUATING) - own)


def _guarded(name: str, answer: str, entry: Mapping[str, Any]) -> str:
    """Why the scorer, which evaluates what it is given, is not asked about this answer; "" if it may be."""
    if name in LITERALS and answer != str(entry["answer"]) and not _is_literal(answer):
        solutions = entry.get("metadata", {}).get("valid_answers", ())
        return "" if answer in solutions and "(" not in answer else "it is not the answer"
    if name in EXPRESSIONS:
        return _no_arithmetic(answer, name, entry)
    return ""


def _is_literal(answer: str) -> bool:
    try:
        ast.literal_eval(answer[:_MOST_CHARACTERS])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return len(answer) <= _MOST_CHARACTERS


def _no_arithmetic(answer: str, name: str, entry: Mapping[str, Any]) -> str:
    """Why `answer` is no arithmetic of numbers and of names that are known here, or ""."""
    if len(answer) > _MOST_CHARACTERS:
        return f"it is longer than {_MOST_CHARACTERS:,} characters"
    powers = name not in ("countdown", "puzzle24")
    asked = f"{entry['answer']} {entry.get('metadata', {}).get('variable', '')}" if powers else ""
    names = set(re.findall(r"[A-Za-z]\w*", asked)) | _FUNCTIONS if powers else set()
    place = 0
    while place < len(answer.rstrip()):
        token = _TOKEN.match(answer, place)
        if token is None or (token[2] and token[2] not in names) or (token[3] == "**" and not powers):
            return f"it is no arithmetic: {answer[place : place + 20].strip()!r} stands in it"
        place = token.end()
    return ""


# Entries as plain JSON data: tuples, and keys that are no texts, are kept.


def to_plain(value: Any) -> Any:
    """JSON data from which `from_plain` makes `value` again.

    Raises:
        TypeError: it holds something else than texts, numbers, lists, tuples and mappings.
    """
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("__") for key in value):
            return {key: to_plain(item) for key, item in value.items()}
        return {"__items__": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"__tuple__": [to_plain(item) for item in value]}
    if isinstance(value, list):
        return [to_plain(item) for item in value]
    if isinstance(value, str | bool | int | float | None):
        return value if type(value) in (str, bool, int, float, type(None)) else _unwrapped(value)
    if hasattr(value, "tolist"):  # numpy's
        return to_plain(value.tolist())
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def _unwrapped(value: Any) -> Any:
    """The text or number that a subclass (an enumeration's member, say) stands for."""
    base = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
    return base(getattr(value, "value", value))


def from_plain(value: Any) -> Any:
    """What `to_plain` was given."""
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"__tuple__"}:
        return tuple(from_plain(item) for item in value["__tuple__"])
    if set(value) == {"__items__"}:
        return {from_plain(key): from_plain(item) for key, item in value["__items__"]}
    return {key: from_plain(item) for key, item in value.items()}
