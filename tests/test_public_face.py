"""What users may import: five lists of names, each loaded on first use, and the old names that still work."""

import ast
import inspect
import json
import re
import subprocess
import textwrap
import tomllib
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from packaging.requirements import Requirement

import selfcorrect
from selfcorrect import TaskError
from selfcorrect.distribution import install_command, requirement
from selfcorrect.public_names import MOVED

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[1]
PACKAGES = ["selfcorrect", "selfcorrect.rewards", "selfcorrect.tasks", "selfcorrect.agents", "selfcorrect.training"]
ROOMS = [package.rpartition(".")[2] for package in PACKAGES[1:]]
PUBLIC = [(package, name) for package in PACKAGES for name in import_module(package).__all__]
READ_BY_USERS = [
    *[ROOT / "README.md", ROOT / "CONTRIBUTING.md"],
    *(path for folder in ("docs", "notebooks", "examples") for path in sorted((ROOT / folder).rglob("*.*"))),
]
SHOWN = [path for path in READ_BY_USERS if path.suffix in {".md", ".py", ".ipynb"} and path.is_file()]
SHOWN = [path for path in SHOWN if "hooks" not in path.parts]  # they make the site; nobody is taught by them
PAGES = [path for path in SHOWN if path.suffix == ".md"]
needs_checkout = pytest.mark.skipif(not SHOWN, reason="there is nothing to read beside an installed wheel")


def code_of(path: Path) -> Iterator[str]:
    """The Python that a page, a notebook or a file shows."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield text
    elif path.suffix == ".md":
        yield from re.findall(r"^```(?:python|py)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    else:
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "code":
                yield re.sub(r"^\s*[%!].*$", "", "".join(cell["source"]), flags=re.MULTILINE)


def imported(code: str) -> Iterator[tuple[str, str]]:
    """(package, name) of what is imported of us; the name is empty for `import package`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "selfcorrect":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "selfcorrect")


@needs_checkout
@pytest.mark.parametrize("path", SHOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_users_read_imports_public_names_only(path: Path) -> None:
    for code in code_of(path):
        for package, name in imported(code):
            assert package in PACKAGES, f"{package} is nobody's business: list {name} in an __init__.pyi"
            assert not name or (package, name) in PUBLIC, f"{package}.{name} is in no list"


@needs_checkout
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_dotted_name_in_prose_exists(path: Path) -> None:
    for name in re.findall(r"\bselfcorrect(?:\.[A-Za-z_]\w*)+", path.read_text(encoding="utf-8")):
        assert resolve(name) is not None, f"{path.name} tells of {name}"


@needs_checkout
@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    folders = "|".join(["src", "tests", "docs", "benchmarks", "examples", "notebooks", *ROOMS])
    for named in re.findall(rf"`((?:{folders})/[\w./*-]*)`", text):
        assert any(ROOT.glob(named.rstrip("/"))), f"{path.name} tells of {named}"
    for link in re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"
    for module in re.findall(r"`(\w+\.py)`", text):
        assert any(file for folder in ("src", "tests", "benchmarks", "examples", *ROOMS)
                   for file in (ROOT / folder).rglob(module)), f"{path.name} tells of {module}"  # fmt: skip


def resolve(dotted: str) -> Any:
    """The module or the thing in a module that a dotted name names."""
    home, _, name = dotted.rpartition(".")
    try:
        return import_module(dotted)
    except ModuleNotFoundError:
        return getattr(import_module(home), name)


def test_the_readers_of_this_test_find_deep_imports() -> None:
    code = "from selfcorrect import solve\nfrom selfcorrect.agents.state import Turn\nimport selfcorrect.errors"
    assert list(imported(code)) == [
        ("selfcorrect", "solve"),
        ("selfcorrect.agents.state", "Turn"),
        ("selfcorrect.errors", ""),
    ]


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=lambda part: part)
def test_a_public_name_can_be_had(package: str, name: str) -> None:
    assert getattr(import_module(package), name) is not None
    assert name in dir(import_module(package))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_list_for_type_checkers_has_one_name_a_line(package: str) -> None:
    stub = Path(inspect.getfile(import_module(package))).with_suffix(".pyi").read_text(encoding="utf-8")
    lines = [line for line in stub.splitlines() if line and not line.startswith('"""')]
    names = [re.fullmatch(r"from \.[\w.]+ import (\w+) as \1", line) for line in lines]
    assert all(names), [line for line, found in zip(lines, names, strict=True) if not found]
    assert sorted(found[1] for found in names if found) == sorted(import_module(package).__all__)


def test_one_name_is_one_thing_in_every_list() -> None:
    top = {name for package, name in PUBLIC if package == "selfcorrect"}
    for package, name in PUBLIC:
        if name in top:
            assert getattr(import_module(package), name) is getattr(selfcorrect, name), f"{package}.{name}"


@pytest.mark.slow
def test_a_function_named_like_its_module_stays_a_function(warm_python: str) -> None:
    program = (
        "import selfcorrect.agents.search.state, selfcorrect.agents.recording, selfcorrect.training.adapt\n"
        "from selfcorrect.agents import recording, search\nfrom selfcorrect.training import adapt\n"
        "print(recording.__name__, search.__name__, adapt.__name__)"
    )
    done = subprocess.run([warm_python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["recording", "search", "adapt"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="agentz"):
        _ = selfcorrect.agentz  # type: ignore[attr-defined]


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_still_works_and_says_what_to_write_instead(old: str) -> None:
    home, name = old.rsplit(".", 1)
    new_home, new_name = MOVED[old].new.rsplit(".", 1)
    with pytest.warns(DeprecationWarning, match=f"write `from {new_home} import {new_name}`") as caught:
        found = getattr(import_module(home), name)
    assert found is getattr(import_module(new_home), new_name)
    assert caught[0].filename == __file__, "the warning points at the line that uses the old name"
    assert (new_home, new_name) in PUBLIC


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_goes_when_its_version_comes(old: str) -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(".")[:2]]

    assert numbers(version("selfcorrect")) < numbers(MOVED[old].gone_in), f"{old} is due: take it out of MOVED"


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match="selfcorrect.training.trainers"):
        import_module("selfcorrect.training.trainers")
    with warnings.catch_warnings(), pytest.raises(AttributeError, match="no attribute 'PPOTrainers'"):
        _ = import_module("selfcorrect.training.trainer").PPOTrainers


# What a public definition must say of itself.

ERRORS = {name for name in selfcorrect.__all__ if name.endswith("Error")}


@cache
def protocols() -> list[Any]:
    things = [getattr(import_module(package), name) for package, name in PUBLIC]
    return [thing for thing in things if getattr(thing, "_is_protocol", False)]


def definitions(name: str, thing: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, function, docstring) of a function, or of a class with its methods and properties; a class stands for
    its `__init__`."""
    if inspect.isfunction(thing):
        yield name, thing, inspect.getdoc(thing) or ""
    elif inspect.isclass(thing):
        about = vars(thing).get("__doc__") or ""
        about = "" if about.startswith(f"{thing.__name__}(") else about  # what a dataclass writes of itself
        yield name, vars(thing).get("__post_init__", vars(thing).get("__init__")), about
        for member, value in list(vars(thing).items()):
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            is_field = member in getattr(thing, "__dataclass_fields__", {})
            if not member.startswith("_") and inspect.isfunction(function) and not is_field:
                words = explained(thing, member)
                yield f"{name}.{member}", function, words and f"{words}\n{about}"


def explained(thing: type, member: str) -> str:
    """Its own docstring, and those that a base class or a protocol that it follows gives the same member."""
    followed = [protocol for protocol in protocols() if follows(thing, protocol)]
    owners = [kind for kind in (*thing.__mro__, *followed) if member in vars(kind)]
    own = [inspect.getdoc(vars(kind)[member]) or "" for kind in owners]
    return "\n".join(own)


def follows(thing: type, protocol: Any) -> bool:
    has = {*dir(thing), *getattr(thing, "__dataclass_fields__", {})}
    return all(member in has for member in vars(protocol) if not member.startswith("_"))


def errors_raised(function: Any) -> set[str]:
    """Of ours, directly."""
    if not inspect.isfunction(function) or "<string>" in function.__code__.co_filename:
        return set()
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)} & ERRORS


@pytest.mark.parametrize(("package", "name"), [one for one in PUBLIC if one[0] != "selfcorrect"], ids=lambda part: part)
def test_a_public_definition_says_what_it_is_and_which_errors_it_raises(package: str, name: str) -> None:
    for path, function, words in definitions(name, getattr(import_module(package), name)):
        assert words.strip(), f"{package}.{path} has no docstring"
        silent = {error for error in errors_raised(function) if error not in words}
        assert not silent, f"{package}.{path} raises {', '.join(sorted(silent))} and does not say so"


def tensors_without_shape(function: Any, words: str) -> set[str]:
    """What a function takes and gives as tensors, less what `words` give a shape: `name: (B, T) ...`, for all `name_C`
    at once "of length C", and of what it returns, or is, `(B,) ...`."""
    hints = {name: str(hint) for name, hint in getattr(function, "__annotations__", {}).items()}
    tensors = {name for name, hint in hints.items() if "Tensor" in hint or "ndarray" in hint}
    shape = r"\((?:[A-Z0-9][\w*+ -]*,? ?)+\)"
    columns = {name for name in tensors if f"of length {name.rpartition('_')[2]}" in words}
    taken = {name for name in tensors - {"return"} - columns if not re.search(rf"\b{name}: {shape}", words)}
    given = {"return"} & tensors if not re.search(rf"(?:\A|Returns:\s+){shape}", words) else set()
    return taken | given


@pytest.mark.parametrize(("package", "name"), [one for one in PUBLIC if one[0] != "selfcorrect"], ids=lambda part: part)
def test_a_public_function_on_tensors_gives_their_shapes(package: str, name: str) -> None:
    for path, function, words in definitions(name, getattr(import_module(package), name)):
        missing = tensors_without_shape(function, words)
        assert not missing, f"{package}.{path} does not say the shape of {', '.join(sorted(missing))}"


def test_the_reader_of_shapes_finds_what_is_missing() -> None:
    def mixed(a_BT: "Tensor", b_B: "Tensor", name: str) -> "Tensor": ...

    assert tensors_without_shape(mixed, "Args: a_BT: (B, T) float") == {"b_B", "return"}
    assert tensors_without_shape(mixed, "a_BT: (B, T)\nb_B: (B,)\nReturns:\n  (B,)") == set()
    assert tensors_without_shape(mixed, "Columns of length B: b_B") == {"a_BT", "return"}
    assert tensors_without_shape(mixed, "a_BT: any\nb_B: (see there)\nReturns:\n  (B,)") == {"a_BT", "b_B"}


class Undocumented:
    def silent(self) -> None:
        raise TaskError("no")


def test_the_reader_of_docstrings_finds_what_is_missing() -> None:
    found = {path: (errors_raised(function), words) for path, function, words in definitions("U", Undocumented)}
    assert found == {"U": (set(), ""), "U.silent": ({"TaskError"}, "")}
    names = {path for path, _, _ in definitions("Sampling", selfcorrect.Sampling)}
    assert names == {"Sampling", "Sampling.with_seed"}


# What is missing is told with a command that works.


@pytest.mark.parametrize(
    ("extra", "packages"), [("serve", ["starlette>=", "uvicorn>="]), ("sqlite", ["langgraph-checkpoint-sqlite"])]
)
def test_an_extra_is_installed_by_the_names_of_its_packages(extra: str, packages: list[str]) -> None:
    command = install_command(extra)
    assert command.startswith("pip install '") and all(f"'{package}" in command for package in packages)


def test_an_extra_that_the_installation_does_not_know_is_installed_in_the_checkout() -> None:
    assert install_command("brand-new") == "pip install -e '.[brand-new]' (in the checkout)"


FROM_AN_INDEX = re.compile(r"pip install[^\n&;#]* ['\"]?selfcorrect(?!\S*\.(?:whl|tar))(?:\[[\w,]*\])?(?!\S* @ )")


def test_no_message_and_no_page_sends_users_to_a_package_that_no_index_has() -> None:
    package = Path(selfcorrect.__file__).parent
    sources = [path for folder in (".", *ROOMS) for path in (package / folder).rglob("*.py")]
    assert len(sources) > 100
    for source in [*sources, *SHOWN, *(ROOT / "recipes").rglob("*.md")]:
        assert not FROM_AN_INDEX.search(source.read_text(encoding="utf-8")), source


def test_an_installation_by_name_alone_is_told_from_one_that_works() -> None:
    for works in ("git+REPOSITORY", "'selfcorrect[serve] @ git+REPOSITORY'", "-e .", "selfcorrect-*.whl"):
        assert not FROM_AN_INDEX.search(f"pip install {works}  # selfcorrect"), works
    for fails in ("selfcorrect", "'selfcorrect[serve]'", "-U selfcorrect", '"selfcorrect"'):
        assert FROM_AN_INDEX.search(f"pip install {fails}"), fails


PLACE = "https://host/team/selfcorrect"


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ({"url": PLACE, "vcs_info": {"vcs": "git", "commit_id": "0a1b2c"}}, f"selfcorrect @ git+{PLACE}@0a1b2c"),
        (
            {"url": PLACE, "subdirectory": "python", "vcs_info": {"vcs": "git", "commit_id": "0a1b2c"}},
            f"selfcorrect @ git+{PLACE}@0a1b2c#subdirectory=python",
        ),
        (
            {"url": f"{PLACE}-0.1.0-py3-none-any.whl", "archive_info": {}},
            f"selfcorrect @ {PLACE}-0.1.0-py3-none-any.whl",
        ),
        ({"url": "file:///home/me/it", "dir_info": {"editable": True}}, "selfcorrect @ file:///home/me/it"),
        (None, None),
    ],
    ids=["repository", "folder of a repository", "wheel", "checkout", "nobody wrote it down"],
)
def test_a_requirement_names_the_place_that_the_installation_came_from(
    written: dict[str, Any] | None, line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = SimpleNamespace(read_text=lambda name: json.dumps(written) if written else None)
    monkeypatch.setattr("selfcorrect.distribution.distribution", {"selfcorrect": installed}.__getitem__)
    assert requirement() == line
    assert line is None or Requirement(line).name == "selfcorrect"


@needs_checkout
def test_every_extra_that_a_message_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    folders = [ROOT / folder for folder in ("agents", "rewards", "tasks", "training", "src")]
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    named = {extra for text in texts for extra in re.findall(r"""install_command\(["'](\w+)["']\)""", text)}
    assert {"serve", "langchain", "constrained"} <= named <= set(extras)
