"""Pages of the site that are made from the code: settings, command line, public names, and the log of what failed."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

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

    return "# Settings\n\nOf `--config` files and `--set group.name=value`.\n\n" + "\n".join(groups("", RunSettings))


def groups(path: str, model: type[BaseModel]) -> Iterator[str]:
    """A table of a model's own settings, then those of the groups inside it; `path` is how `--set` begins."""
    inside = []
    title = f"`{path.rstrip('.')}`: {model.__name__}" if path else "Of the run itself"
    yield f"## {title}\n\n| name | type | default | meaning |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        below = [kind for kind in (field.annotation, *get_args(field.annotation)) if is_model(kind)]
        inside += [(f"{path}{name}.", kind) for kind in below]
        kinds = " or ".join(kind.__name__ for kind in below) or TYPE_PATH.sub("", str(field.annotation))
        default = "" if field.is_required() or below else f"`{field.get_default(call_default_factory=True)!r}`"
        meaning = field.description or (inspect.getdoc(below[0]) if below else "")
        yield f"| `{path}{name}` | {cell(kinds)} | {cell(default)} | {cell(meaning or '')} |"
    yield ""
    for below_path, kind in inside:
        yield from groups(below_path, kind)


TYPE_PATH = re.compile(r"<class '|'>|[a-z_]+\.(?=[\w.]*[A-Za-z])|typing\.")


def is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def command_line() -> str:
    """Every command with its options, from the program itself."""
    from typer.main import get_command

    from selfcorrect.cli.app import app

    return "# Command line\n\n" + "\n".join(described(get_command(app), "selfcorrect"))


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
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return ""
    try:
        return f"```python\n{name}{inspect.signature(thing)}\n```\n\n"
    except ValueError:  # enumerations and the like have none
        return ""


def prose(thing: Any) -> str:
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return ""
    return f"```text\n{inspect.getdoc(thing) or ''}\n```\n"


def cell(text: str) -> str:
    """For a table: on one line, with nothing that ends a cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
