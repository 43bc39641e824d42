"""Stands for the package trackio where it is not installed, and keeps what it is told."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Trackio(ModuleType):
    """Stands for the package, and keeps what it is told."""

    __version__ = "0.21.2"

    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = ModuleSpec("trackio", None)
        self.told: dict[str, dict[str, Any]] = {}
        self.context_vars = SimpleNamespace(
            current_space_id=SimpleNamespace(get=lambda: self.told["init"]["space_id"]),
            current_run=SimpleNamespace(get=lambda: None),
        )
        self.config: dict[str, Any] = {}
        self.Table = lambda dataframe: dataframe

    def init(self, **how: Any) -> None:
        self.told["init"] = how
        self.config = _Config()

    def log(self, figures: dict[str, Any]) -> None:
        self.told.setdefault("figures", figures)

    def freeze(self, **how: Any) -> str:
        self.told["freeze"] = how
        return "owner/frozen"

    def finish(self) -> None: ...


class _Config(dict[str, Any]):
    def update(self, figures: Any, **_: Any) -> None:
        super().update(figures)


def installed_trackio(monkeypatch: pytest.MonkeyPatch) -> Trackio:
    """The double in the place of the package."""
    double = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", double)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: True)
    monkeypatch.setattr("selfcorrect.training.ppo.keeping.find_spec", lambda name: True)
    return double
