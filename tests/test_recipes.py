"""The settings of recipes/ are read, checked and name arms that exist; whatever was not run says so."""

import re
from pathlib import Path

import pytest

from selfcorrect.training.arms.registry import ARMS
from selfcorrect.training.settings import LM, read_settings

RECIPES = Path(__file__).parents[1] / "recipes"
FOLDERS = sorted(path.parent for path in RECIPES.glob("*/settings.yaml"))
pytestmark = pytest.mark.skipif(not RECIPES.is_dir(), reason="there are no recipes beside an installed wheel")


def test_there_are_recipes() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_settings_of_a_recipe_are_valid_and_ask_for_its_model(folder: Path) -> None:
    settings = read_settings(folder / "settings.yaml", base=LM)
    assert settings.policy.model.split("/")[1].lower().removesuffix("-instruct") in folder.name
    assert settings.task.kind in folder.name
    assert settings.optimiser.max_kl == LM.optimiser.max_kl, "what a recipe leaves out is the preset's"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_command_of_a_recipe_names_its_own_settings_and_known_arms(folder: Path) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert f"--config recipes/{folder.name}/settings.yaml" in readme
    named = re.search(r"--arms (\S+)", readme)
    assert named is not None
    for arm in named[1].split(","):
        ARMS.find(arm)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_first_line_says_whether_it_was_run(folder: Path) -> None:
    first = (folder / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"\*\*(Not run|Run) by us\.\*\*", first)
