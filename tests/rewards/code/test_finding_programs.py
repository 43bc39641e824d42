"""Which part of a response is judged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcorrect.rewards.code.extraction import find_program


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("x = 1", "x = 1"),
        ("Sure!\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```python\nx = 1\n```\nBetter:\n```python\nx = 2\n```", "x = 2\n"),
        ("```python\nx = 1\n```\nIt prints:\n```\n1\n```", "x = 1\n"),
        ("```python\nx = 1\n```\n```bash\nls\n```", "x = 1\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```py\nx = 1\n```", "x = 1\n"),
        ("```Python 3.11\nx = 1\n```", "x = 1\n"),
        ("~~~python\nx = 1\n~~~", "x = 1\n"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
        ("1. This:\n   ```python\n   if x:\n       y = 1\n   ```", "if x:\n    y = 1\n"),
        ("```python\nx = 1\n```\nand then\n```python\n", "x = 1\n"),
        ("```python\r\nx = 1\r\n```", "x = 1\n"),
        ("```python\n```", "\n"),
    ],
)
def test_the_last_complete_python_block_counts(response: str, program: str) -> None:
    assert find_program(response).program == program


@pytest.mark.parametrize("response", ["", "  \n", "```python\n", "```bash\nls\n```", "<think>\nx = 1"])
def test_a_response_without_a_block_of_python_has_no_program(response: str) -> None:
    found = find_program(response)
    assert found.program is None
    assert found.problem


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("<think>easy</think>\nHere:\n```python\ndef inc(x):\n    return x\n", "def inc(x):\n    return x\n\n"),
        ("We add one.\n\ndef inc(x):\n    return x\n\nThis adds one.", "def inc(x):\n    return x\n\n"),
        ("```python\ndef inc(x):\n    return x```", "def inc(x):\n    return x\n"),
        ("```python\nA = 1```\nthen\n```python\ndef inc(x):\n    return x\n```", "def inc(x):\n    return x\n"),
        ("[PYTHON]\ndef inc(x): return x\n[/PYTHON]", "\ndef inc(x): return x\n\n"),
        ("<code>def inc(x): return x</code>", "def inc(x): return x\n"),
        ('{"code": "def inc(x):\\n    return x"}', "def inc(x):\n    return x\n"),
        ("    def inc(x):\n        return x", "def inc(x):\n    return x"),
        ("```python\n    def inc(x):\n        return x\n```", "def inc(x):\n    return x\n"),
        (("```python\ndef inc(x):\n    return x\n```\n"
"Use:\n```python\nprint(inc(3))\n```"), "def inc(x):\n    return x\n"),
        (("```python\ndef inc(x):\n    return 0\n```\n"
"No:\n```python\ndef inc(x):\n    return x\n"
"```"), "def inc(x):\n    return x\n"),
        (("```python\ndef h(x):\n    return x\n```\n"
"and\n```python\ndef inc(x):\n    return h(x)\n"
"```"), "def h(x):\n    return x\n\ndef inc(x):\n    return h(x)\n"),
        (("<think>\n```python\ndef inc(x): return 2\n"
"</think>\n```python\ndef inc(x): return x\n"
"```"), "def inc(x): return x\n"),
        ("def inc(x):\n    return x.split('</think>')\n", "def inc(x):\n    return x.split('</think>')\n"),
    ],
)  # fmt: skip
def test_of_several_blocks_the_one_with_the_wanted_name_counts(response: str, program: str) -> None:
    assert find_program(response, {"inc"}).program == program


def test_a_right_draft_in_a_thinking_section_does_not_count() -> None:
    found = find_program("<think>\n```python\ndef inc(x): return x + 1\n```\n</think>\nI give up.", {"inc"})
    assert "def inc" not in (found.program or "")
    assert find_program("<think>\n```python\ndef inc(x): return x + 1\n```", {"inc"}).program is None


def test_a_whole_program_is_not_replaced_by_an_example_of_its_use() -> None:
    main = "n = int(input())\nprint(n)\n"
    assert find_program(f"```python\n{main}```\nTry:\n```python\nprint(3)\n```", script=True).program == main


def test_only_line_feeds_end_lines() -> None:
    program = "text = 'form\x0cfeed, line\u2028separator, next\x85line'\n"
    assert find_program(f"```python\n{program}```").program == program
    assert find_program("```python\r\nx = 1\r\n```\r\n").program == "x = 1\n"


@pytest.mark.parametrize(
    "line", ["```" + " " * 300_000 + "`", "`" * 300_000, " " * 300_000 + "```" + "\t" * 300_000 + "`"]
)
def test_no_line_takes_longer_than_its_length(line: str) -> None:
    """Quadratic time would take an hour here."""
    assert find_program(f"```python\nx = 1\n```\n{line}\n").program == "x = 1\n"


@given(st.text(st.sampled_from("`~ \t\npython=x.{}"), max_size=80))
def test_any_text_is_read_without_an_error(response: str) -> None:
    found = find_program(response)
    assert (found.program is None) == bool(found.problem)


@pytest.mark.parametrize(
    "head", ["def inc(x): return [x,", "values = foo(1,", "from math import (", "return_ = {", "print("]
)
def test_a_statement_over_several_lines_is_code_where_nothing_is_fenced(head: str) -> None:
    close = {"[": "]", "(": ")", "{": "}"}[next(c for c in reversed(head.replace("(x)", "")) if c in "[({")]
    program = f"import math\n{head}\n    1\n{close}\n"
    assert find_program(f"{program}").program == program


@pytest.mark.parametrize(
    "line", ["class A:", "for a in xs:", "if a > b:", "if a is None:", "if a and b:", "with a as b:", "for it in xs:"]
)
def test_a_name_that_is_also_an_article_or_a_pronoun_makes_no_prose_of_code(line: str) -> None:
    program = f"def f(x):\n    return x\n{line}\n    pass\n"
    for response in (program, f"This is it.\n\n{program}"):
        assert (find_program(response).program or "").strip() == program.strip()


@pytest.mark.parametrize(
    "line", ["for a given list:", "if the number is odd:", "if a number is odd:", "from the start:"]
)
def test_prose_that_begins_like_a_statement_is_left_out(line: str) -> None:
    assert (find_program(f"{line}\ndef f(x):\n    return x").program or "").strip() == "def f(x):\n    return x"


@pytest.mark.parametrize(
    ("earlier", "belongs"),
    [
        ("from operator import mul", True),
        ("import operator\nfrom operator import (add, mul as mul)", True),
        ("from operator import mul\n\ndef half(x):\n    return x / 2", True),
        ("from operator import mul\nprint(mul(2, None))", False),  # an experiment
        ("from operator import mul\n\ndef area(r, h):\n    return mul(r, r)", False),  # an earlier answer
        ("from operator import add", False),
    ],
)
def test_a_block_of_imports_belongs_to_what_uses_them(earlier: str, belongs: bool) -> None:
    last = "def area(r, h):\n    return mul(r, h)\n"
    program = find_program(f"```python\n{earlier}\n```\nThen:\n```python\n{last}```", {"area"}).program
    assert program == (f"{earlier}\n\n{last}" if belongs else last)
