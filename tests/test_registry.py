"""Things by name: the library's own, and a user's as package.module:Name."""

import subprocess
import sys
from pathlib import Path

import pytest

from selfcorrect.errors import ConfigurationError, TaskError
from selfcorrect.registry import Registry, called, is_address, load, shown_kind

FRUIT: Registry[int] = Registry("fruit", {"apple": 1, "pear": 2, "far": "sys:maxsize"}, expects=int, says="a number")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path for modules of a user's own."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_name_finds_its_thing_and_an_address_is_imported_when_it_is_looked_up() -> None:
    assert FRUIT.find("pear") == 2 and FRUIT["far"] == sys.maxsize
    assert FRUIT.names == tuple(FRUIT) == ("apple", "pear", "far")
    assert "pear" in FRUIT and "sys:maxsize" not in FRUIT and len(FRUIT) == 3


def test_a_users_own_is_found_by_its_address(own: Path) -> None:
    (own / "orchard.py").write_text("PLUM = 7\nclass Tree:\n    fig = 8\n")
    assert FRUIT.find("orchard:PLUM") == 7
    assert FRUIT.find("orchard:Tree.fig") == 8


def test_an_unknown_name_is_told_with_the_nearest_one() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown fruit 'peer'; did you mean pear\? there are apple, pear, far"
    ):
        FRUIT.find("peer")
    with pytest.raises(KeyError):
        _ = FRUIT["peer"]


def test_what_is_wrong_with_an_address_is_told(own: Path) -> None:
    (own / "broken.py").write_text("1 / 0\n")
    (own / "needy.py").write_text("import no_such_module_at_all\n")
    (own / "garden.py").write_text("plum = 7\nROSE = 'red'\n")
    for address, told in {
        "nowhere.fruit:PLUM": "no module 'nowhere'; it must be installed, lie in the current folder",
        "garden:plumb": "garden has no 'plumb'; did you mean plum?",
        "garden:ROSE": "garden:ROSE is no fruit: expected a number, got a str",
        "broken:X": "importing broken failed: ZeroDivisionError: division by zero",
        "needy:X": "needy needs the module 'no_such_module_at_all', which is missing",
    }.items():
        with pytest.raises(ConfigurationError) as error:
            FRUIT.find(address)
        assert told in str(error.value)


def test_a_file_of_python_and_a_name_without_a_module_are_told_how_to_be_named(own: Path) -> None:
    (own / "garden.py").write_text("plum = 7\n")
    (own / "torn.py").write_text("def plum(:\n")
    for address, told in {
        "garden.py:plum": "there is no module 'garden.py'; did you mean garden:plum?",
        "garden": "garden: expected package.module:Name",
        "torn:plum": "importing torn failed: SyntaxError: invalid syntax (torn.py, line 1)",
    }.items():
        with pytest.raises(ConfigurationError) as error:
            load(address)
        assert str(error.value).endswith(told)


def test_what_a_users_code_raises_is_told_with_the_line_of_their_file(own: Path) -> None:
    (own / "seeder.py").write_text("import json\ndef sow(text):\n    return json.loads(text)\n")
    sow = load("seeder:sow")
    assert called("seeder:sow", sow, "3") == 3
    with pytest.raises(ConfigurationError) as error:
        called("seeder:sow", sow, "{", expected="a number")
    told = str(error.value)
    assert told.startswith("seeder:sow failed: JSONDecodeError: Expecting property name")
    assert told.endswith(f"({own / 'seeder.py'}, line 3); expected a number")
    assert isinstance(error.value.__cause__, ValueError)
    with pytest.raises(ConfigurationError, match=r"failed: TypeError: sow\(\) missing 1 required .* 'text'$"):
        called("seeder:sow", sow)


def test_errors_of_our_own_pass_as_they_are() -> None:
    def refuses() -> None:
        raise TaskError("no rows")

    with pytest.raises(TaskError, match="^no rows$"):
        called("mine:Task", refuses)


def test_a_value_is_called_by_its_kind() -> None:
    assert [shown_kind(value) for value in (None, 3, int, len)] == [
        "None",
        "an int",
        "the class int",
        "the function len",
    ]


def test_what_stands_at_an_address_can_be_made_into_a_thing(own: Path) -> None:
    (own / "seeds.py").write_text("def plant(): return 9\n")
    grown: Registry[int] = Registry("fruit", {}, accept=lambda address, found: found() + len(address), expects=int)
    assert grown.find("seeds:plant") == 9 + len("seeds:plant")


@pytest.mark.parametrize(
    "text", ["vllm:Qwen/Qwen3@http://x", "beam:4x4", "best_of_n:sure=0.9", "gsm8k:data/f.jsonl", "a"]
)
def test_other_names_with_a_colon_are_no_addresses(text: str) -> None:
    assert not is_address(text)


def test_the_current_folder_is_searched_last_unless_python_was_told_not_to(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("PLUM = 7\n")
    code = "from selfcorrect.registry import load; print(load('mine:PLUM'))"
    env = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    run = [sys.executable, "-c", f"import sys; sys.path.remove(''); {code}"]
    found = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert found.stdout == "7\n", found.stderr
    safe = [sys.executable, "-P", "-c", code]
    refused = subprocess.run(safe, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "there is no module 'mine'" in refused.stderr
