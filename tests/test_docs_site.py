"""The site that is made of docs/ and of the code itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="tests run against an installed wheel"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(built)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return built


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("index.html", "First run"),
        ("results/index.html", "The arms at equal tokens"),
        ("log/index.html", "What was tried, and what came of it"),
        ("reference/settings/index.html", "optimiser.learning_rate"),
        ("reference/command-line/index.html", "selfcorrect train vstar"),
        ("reference/checkers/index.html", "n numbers need n - 1 steps"),
        ("reference/selfcorrect.agents/index.html", "build_graph"),
        ("reference/selfcorrect.training/index.html", "TurnPPOTrainer"),
    ],
)
def test_the_site_builds_without_a_warning_and_holds_what_the_code_says(site: Path, page: str, words: str) -> None:
    assert words in (site / page).read_text(encoding="utf-8")


def test_the_reference_has_words_where_python_has_its_own_names_for_things(site: Path) -> None:
    pages = {path.parent.name: path.read_text(encoding="utf-8") for path in (site / "reference").rglob("index.html")}
    assert "<td>float &gt; 0 or None</td>" in pages["settings"]
    assert not [name for name, text in pages.items() if "FieldInfo" in text or "PydanticUndefined" in text]


def test_the_site_needs_nothing_from_elsewhere(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis.com" not in text and "cdn" not in text


def test_every_page_of_docs_can_be_reached_from_the_first(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        address = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        assert address == "index" or f'href="{address}/"' in text, f"nothing leads to {page.name}"
