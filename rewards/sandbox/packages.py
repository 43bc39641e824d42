"""Installed packages that a jailed process may import, on the user's word: they are loaded before the jail closes.

Each brings what it declares to need. What else is installed stays out of sight: a benchmark's tests may lie there.
"""

import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType

_NAME = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Installed:
    """One distribution: its top-level modules and where they and their shared libraries lie."""

    name: str
    modules: tuple[str, ...]
    paths: tuple[str, ...]


def missing(names: Iterable[str]) -> list[str]:
    """Those of the packages `names` that cannot be imported here."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def load(names: Sequence[str]) -> list[Installed]:
    """Import packages by the names of their modules; what they and their requirements consist of.

    Raises:
        ImportError: one cannot be imported.
    """
    owners = importlib.metadata.packages_distributions()
    found: dict[str, Installed] = {}
    waiting = [owner for name in names for owner in owners.get(name, ())]
    while waiting:
        name = waiting.pop()
        if _normal(name) not in found:
            try:
                distribution = importlib.metadata.distribution(name)
            except importlib.metadata.PackageNotFoundError:  # an optional requirement
                continue
            found[_normal(name)] = _installed(distribution)
            waiting += [
                m[0] for need in distribution.requires or () if "extra ==" not in need and (m := _NAME.match(need))
            ]
    for name in names:
        importlib.import_module(name)
    return list(found.values())


def _installed(distribution: importlib.metadata.Distribution) -> Installed:
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
    tops = {top for top in tops if not top.endswith((".dist-info", ".egg-info", ".pth")) and top != "__pycache__"}
    paths = tuple(sorted(str(distribution.locate_file(top)) for top in tops))
    modules = tuple(sorted({top.partition(".")[0] for top in tops if not top.endswith(".libs")}))
    return Installed(distribution.name, modules, paths)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class _Finder:
    """Finds the top-level modules of allowed packages, whose folder itself cannot be listed in the jail."""

    def __init__(self, found: list[Installed]) -> None:
        self._places: dict[str, str] = {}
        for one in found:
            for path in one.paths:
                self._places.setdefault(os.path.basename(path).partition(".")[0], path)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        place = self._places.get(name)
        if place is None or path is not None:
            return None
        if os.path.isdir(place):
            start = os.path.join(place, "__init__.py")
            return importlib.util.spec_from_file_location(name, start, submodule_search_locations=[place])
        return importlib.util.spec_from_file_location(name, place)


def let_import(found: list[Installed]) -> None:
    """Let this process, whose path holds the standard library only, import them."""
    if found:
        sys.meta_path.append(_Finder(found))
