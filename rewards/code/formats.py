"""Rows of published data sets as they are shipped, turned into suites.

| data set | what tells its rows | becomes |
|---|---|---|
| HumanEval, HumanEval+ | `test` defines `check(candidate)`; `entry_point`, `prompt` | `CheckFunction` |
| BigCodeBench | `test` defines a `unittest.TestCase`; `entry_point` | `Asserts` |
| MBPP, MBPP+ | `test_list` (`test_setup_code`, `test_imports`, ...); MBPP+'s `test` counts | `Asserts` |
| APPS, TACO | `input_output`: JSON with `inputs`, `outputs`, perhaps `fn_name` | `StdinStdout`, `Calls` |
| LiveCodeBench | `public_test_cases`, `private_test_cases`, `metadata` with `func_name` | `StdinStdout`, `Calls` |

A row is recognised by its fields and read where it lies: no code of the user's, no network, and nothing in it is
executed here (LiveCodeBench packs its private cases as a pickle of one string: any other pickle is refused).
"""

import ast
import base64
import binascii
import io
import json
import pickle
import re
import zlib
from typing import Any

from selfcorrect.errors import CheckerError

_MAX_UNPACKED = 1_000_000_000


def published(row: dict[str, Any]) -> dict[str, Any]:
    """The suite in a row of a published data set; `row` itself if it is none.

    Raises:
        CheckerError: it looks like one, but what should be JSON in it is not.
    """
    if "input_output" in row:
        return _apps(_json(row["input_output"], "input_output"), row)
    if "inputs" in row and "outputs" in row:
        return _apps(row, row)
    if "public_test_cases" in row or "private_test_cases" in row:
        return _live_code_bench(row)
    if "test_list" in row or ("test" in row and "task_id" in row and "entry_point" not in row):
        return _mbpp(row)
    if "test" in row and "entry_point" in row:
        return _human_eval(row)
    return row


def _human_eval(row: dict[str, Any]) -> dict[str, Any]:
    if "def check(" not in row["test"]:  # BigCodeBench
        return {"kind": "asserts", "code": row["test"]}
    given = row.get("prompt", "")
    if given and not _compiles(given):
        given += "    pass\n"  # the stub ends in its docstring
    entry = {"kind": "function", "code": row["test"], "entry_point": row["entry_point"]}
    return entry | {"given": given if _compiles(given) else ""}


def _mbpp(row: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row.get("test"), str) and row["test"].strip():  # MBPP+
        return {"kind": "asserts", "code": row["test"]}
    imports = row.get("test_imports") or []
    setup = [*([imports] if isinstance(imports, str) else imports), row.get("test_setup_code") or ""]
    tests = [*row["test_list"], *(row.get("challenge_test_list") or [])]
    return {"kind": "asserts", "code": [part for part in [*setup, *tests] if part.strip()]}


def _apps(tests: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    inputs, outputs, name = tests.get("inputs"), tests.get("outputs"), tests.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
        raise CheckerError("tests: inputs and outputs must be lists of one length")
    if not name:
        suite: dict[str, Any] = {"kind": "stdio", "cases": list(map(_stdio_case, inputs, outputs))}
        seconds = re.match(r"[\d.]+", str(row.get("time_limit") or ""))
        return suite | ({"seconds": float(seconds[0])} if seconds else {})
    cases = [
        {"args": _json(given, "inputs"), "expected": _json(wanted, "outputs")}
        for given, wanted in zip(inputs, outputs, strict=True)
    ]
    return {"kind": "calls", "function": _method(name, row), "cases": cases, "wrapped": True}


def _stdio_case(given: Any, wanted: Any) -> dict[str, Any]:
    return {"stdin": _lines(given), "stdout": _lines(wanted)}


def _lines(text: Any) -> str:
    return "\n".join(map(_lines, text)) if isinstance(text, (list, tuple)) else str(text)


def _live_code_bench(row: dict[str, Any]) -> dict[str, Any]:
    cases = [
        *_json(row.get("public_test_cases") or "[]", "public_test_cases"),
        *_private(row.get("private_test_cases") or "[]"),
    ]
    if not cases or not all(isinstance(case, dict) and {"input", "output"} <= case.keys() for case in cases):
        raise CheckerError("tests: cases of LiveCodeBench have the fields input, output and testtype")
    if cases[0].get("testtype") != "functional":
        return {"kind": "stdio", "cases": [{"stdin": case["input"], "stdout": case["output"]} for case in cases]}
    name = _json(row.get("metadata") or "{}", "metadata").get("func_name")
    if not name:
        raise CheckerError("tests: functional cases of LiveCodeBench need metadata with func_name")
    calls = [
        {
            "args": [_json(line, "input") for line in case["input"].split("\n") if line.strip()],
            "expected": _json(case["output"], "output"),
        }
        for case in cases
    ]
    return {"kind": "calls", "function": _method(name, row), "cases": calls}


def _method(name: str, row: dict[str, Any]) -> str:
    """LeetCode's functions are methods of a class `Solution`, as the starter code tells."""
    return f"Solution().{name}" if "class Solution" in (row.get("starter_code") or "") else name


class _StringsOnly(pickle.Unpickler):
    """Opcodes that name a class or function are refused, and without them a pickle runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _private(packed: Any) -> list[Any]:
    if not isinstance(packed, str) or packed.lstrip().startswith("["):
        return list(_json(packed, "private_test_cases"))
    try:
        opened = zlib.decompressobj()
        data = opened.decompress(base64.b64decode(packed, validate=True), _MAX_UNPACKED)
        text = _StringsOnly(io.BytesIO(data)).load()
    except (binascii.Error, zlib.error, pickle.UnpicklingError, ValueError, EOFError, IndexError) as error:
        raise CheckerError(f"tests, field 'private_test_cases': neither JSON nor a packed string ({error})") from None
    return list(_json(text, "private_test_cases"))


def _json(text: Any, field: str) -> Any:
    if not isinstance(text, (str, bytes)):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckerError(f"tests, field {field!r}: no JSON: {error}") from None


def _compiles(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


_FROM_SOLUTION = re.compile(r"^[ \t]*from[ \t]+solution[ \t]+import[ \t]+\(?([\w ,\t]+)", re.MULTILINE)


def take_names(code: str) -> set[str]:
    """Names that tests import from the program, which they call `solution`."""
    return {part.split()[0] for names in _FROM_SOLUTION.findall(code) for part in names.split(",") if part.split()}
