"""Pages of the site that are made from the code: settings, command line, public names, and the log of what failed."""

import inspect
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
PACKAGES = ["selfcorrect", "selfcorrect.rewards", "selfcorrect.tasks", "selfcorrect.agents", "selfcorrect.training"]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A page that `mkdocs.yml` does not place yet is found under "More", by its own title."""
    docs = Path(config.docs_dir)
    placed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    if more := [page for page in pages if f": {page}\n" not in placed]:
        config.nav.append({"More": more})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """mkdocs asks this once it has listed the files of docs/."""
    pages = {"reference/settings.md": settings(), "reference/command-line.md": command_line(), "log.md": log()}
    pages["reference/checkers.md"] = checkers()
    pages |= {f"reference/{package}.md": public_names(package) for package in PACKAGES}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The log lies outside docs/ in the repository and inside the site."""
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"]({up}../benchmarks/LOG.md)", f"]({up}log.md)")


def log() -> str:
    return (ROOT / "benchmarks" / "LOG.md").read_text(encoding="utf-8")


def settings() -> str:
    """Every group of settings of a run, from the models that read them."""
    from selfcorrect import RunSettings

    lead = "Of `--config` files and `--set group.name=value`; [what a run holds](../running.md#what-a-run-leaves)."
    return f"# Settings\n\n{lead}\n\n" + "\n".join(groups("", RunSettings))


def groups(path: str, model: type[BaseModel]) -> Iterator[str]:
    """A table of a model's own settings, then those of the groups inside it; `path` is how `--set` begins."""
    title = f"`{path.rstrip('.')}`: {model.__name__}" if path else "Of the run itself"
    yield f"## {title}\n\n{fields_of(model, path)}"
    for name, field in model.model_fields.items():
        for kind in groups_in(field):
            yield from groups(f"{path}{name}.", kind)


def fields_of(model: type[BaseModel], path: str = "") -> str:
    """A table of what a model holds: name, type, default, meaning."""
    rows = ["| name | type | default | meaning |\n|---|---|---|---|"]
    for name, field in model.model_fields.items():
        inside = groups_in(field)
        kinds = " or ".join(kind.__name__ for kind in inside) or type_text(field.annotation, field.metadata)
        default = "" if field.is_required() or inside else f"`{field.get_default(call_default_factory=True)!r}`"
        meaning = field.description or (inspect.getdoc(inside[0]) or "" if inside else "").partition("\n\n")[0]
        rows.append(f"| `{path}{name}` | {cell(kinds)} | {cell(default)} | {cell(meaning)} |")
    return "\n".join([*rows, ""])


def groups_in(field: Any) -> list[type[BaseModel]]:
    """The models that a field may hold, one of which it is."""
    return [kind for kind in (field.annotation, *get_args(field.annotation)) if is_model(kind)]


def type_text(kind: Any, limits: Iterable[Any] = ()) -> str:
    """A type as a reader of settings wants it: "float > 0 or None", "'token' or 'turn'", "list of str"."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = [getattr(limit, "metadata", [limit]) for limit in inner[1:]]
        return type_text(inner[0], [limit for group in found for limit in group])
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        f" {signs[name]} {getattr(limit, name):.10g}" for limit in limits for name in signs if hasattr(limit, name)
    ]
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in (Union, UnionType):
        return " or ".join(type_text(each, limits) for each in inner)
    if origin is not None and inner:
        return f"{origin.__name__} of {', '.join(type_text(each) for each in inner if each is not ...)}"
    if kind is NoneType:
        return "None"
    return getattr(kind, "__name__", str(kind)) + ",".join(bounds)


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def checkers() -> str:
    """What each checker holds for right, in the words of its own."""
    from selfcorrect.rewards import CHECKERS

    lead = "What `task.checker` and `selfcorrect check` may name. More: [mathematical answers](../math-answers.md), "
    lead += "[programs and unit tests](../code-tests.md), [one of your own](../your-own.md#a-task)."
    told = [f"## {name}\n\n{prose(CHECKERS.find(name))}" for name in CHECKERS.names]
    return "\n".join(["# Checkers' rules\n", lead, "", *told])


def command_line() -> str:
    """Every command with its options, from the program itself."""
    from selfcorrect.cli import program

    return "# Command line\n\n" + "\n".join(described(program(), "selfcorrect"))


def described(command: Any, name: str) -> Iterator[str]:
    for child_name, child in sorted(getattr(command, "commands", {}).items()):
        yield from described(child, f"{name} {child_name}")
    if getattr(command, "commands", None):
        return
    yield f"## {name}\n\n{inspect.cleandoc(command.help or '')}\n\n| option | default | meaning |\n|---|---|---|"
    for parameter in command.params:
        flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
        default = "" if parameter.default is None or callable(parameter.default) else f"`{parameter.default}`"
        yield f"| {flags} | {cell(default)} | {cell(getattr(parameter, 'help', None) or '')} |"
    yield ""


def public_names(package: str) -> str:
    """The names of one list, each with its signature and what it says of itself."""
    module = import_module(package)
    parts = [f"# {package}\n\n{inspect.cleandoc(module.__doc__ or '')}\n"]
    for name in module.__all__:
        thing = getattr(module, name)
        parts.append(f"## {name}\n\n{signature(name, thing)}{prose(thing)}\n")
    return "\n".join(parts)


def signature(name: str, thing: Any) -> str:
    if is_model(thing):
        return f"{fields_of(thing)}\n"
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return ""
    try:
        taken = LIMITS.sub(r"\1", str(inspect.signature(thing)))
    except ValueError:  # enumerations and the like have none
        return ""
    return f"```python\n{name}{PATH.sub('', taken)}\n```\n\n"


LIMITS = re.compile(r"Annotated\[((?:[^\[\]]|\[[^\[\]]*\])*?), FieldInfo\([^()]*\)\]")
PATH = re.compile(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])")


def prose(thing: Any) -> str:
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return ""
    return f"```text\n{inspect.getdoc(thing) or ''}\n```\n"


def cell(text: str) -> str:
    """For a table: on one line, with nothing that ends a cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
