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
        ("```python\nx = 1\n```\nand then\n```python\nx = 2", "x = 1\n"),
        ("```python\r\nx = 1\r\n```", "x = 1\n"),
        ("```python\n```", "\n"),
    ],
)
def test_the_last_complete_python_block_counts(response: str, program: str) -> None:
    assert find_program(response).program == program


@pytest.mark.parametrize("response", ["", "  \n", "```python\nx = 1", "```bash\nls\n```", "~~~python\nx = 1\n```"])
def test_a_response_without_a_complete_block_has_no_program(response: str) -> None:
    found = find_program(response)
    assert found.program is None
    assert found.problem


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
