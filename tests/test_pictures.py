"""Pictures of the README and the docs: what they show, and that every word of theirs can be read on light and on dark
pages; results that are committed are drawn as pages."""

import html
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.compare.report import compare_page
from selfcorrect.training.reporting.charts import on_any_page

ROOT = Path(__file__).parents[1]
DRAWINGS = sorted((ROOT / "docs").glob("*.svg"))
pytestmark = pytest.mark.skipif(not DRAWINGS, reason="there is nothing to look at beside an installed wheel")


# The recorded terminal.


def recorder() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "record.py"))


def test_a_recorded_screen_holds_what_was_not_erased_in_its_colours() -> None:
    screen = recorder()["screen"]
    spun = "\x1b[?25l⠋ loading\r\x1b[2K⠙ loading\r\x1b[2K\x1b[?25h"
    panel = "bar 1\r\ntable 1\r\x1b[2K\x1b[1A\x1b[2Kbar 2\r\ntable 2\r\n"
    assert screen(spun + panel + "\x1b[32mdone\x1b[0m\r\n") == ["bar 2", "table 2", "\x1b[32mdone\x1b[0m", ""]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_command_is_run_in_a_terminal_drawn_and_asked_what_to_try(tmp_path: Path) -> None:
    tools = recorder()
    program = "import sys; print('tty' if sys.stdout.isatty() else 'pipe'); print('try it   echo a\\nnext     echo b')"
    record = tools["run"](shlex.join([sys.executable, "-c", program]), tmp_path)
    assert record.screen[0] == "tty" and tools["suggested"](record) == "echo a"
    svg = tools["drawn"]([record], "title")
    assert svg.startswith("<svg") and "font-face" not in svg and ">tty<" in svg
    with pytest.raises(subprocess.CalledProcessError):
        tools["run"](shlex.join([sys.executable, "-c", "raise SystemExit(1)"]), tmp_path)


def test_the_readmes_terminal_shows_a_question_that_the_policy_mends() -> None:
    svg = html.unescape((ROOT / "docs" / "terminal.svg").read_text("utf-8")).replace("\xa0", " ")
    question = re.search(r"try it   selfcorrect solve '([^']+)'", svg)
    assert question is not None and f"solve '{question[1]}'" in svg.partition("try it")[2]
    assert svg.rindex("✗ wrong") < svg.rindex("✓ correct")


# Words on their grounds.


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda path: path.name)
def test_every_word_of_a_picture_has_the_contrast_that_wcag_asks_for_on_light_and_dark_pages(drawing: Path) -> None:
    svg = drawing.read_text("utf-8")
    if drawing.name != "terminal.svg":  # that has one ground, which is dark
        assert on_any_page(svg) == svg, f"{drawing}: draw it again by its script, or pass it through on_any_page"
        assert ground(in_the_dark(svg)) != ground(svg)
    for shown in (svg, in_the_dark(svg)):
        inks = set(inks_of_words(ElementTree.fromstring(shown), rules(shown)))
        assert inks and {ink: contrast(ink, ground(shown)) for ink in inks if contrast(ink, ground(shown)) < 4.5} == {}


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda path: path.name)
def test_every_line_and_bar_of_a_picture_stands_out_from_its_ground(drawing: Path) -> None:
    svg = drawing.read_text("utf-8")
    for shown in (DARK.sub("", svg), in_the_dark(svg)):
        colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", shown)) - {GRID}
        assert [colour for colour in colours if contrast(colour, ground(shown)) < 3] == []


GRID = "#b0b0b0"
"""The faint lines behind the curves."""
DARK = re.compile(r"<style>@media \(prefers-color-scheme: dark\) \{(.*?) \}</style>", re.DOTALL)


def in_the_dark(svg: str) -> str:
    """The picture with the colours that its style has for readers whose system is dark."""
    found = DARK.search(svg)
    if found is None:
        return svg
    pairs = re.findall(r"\[(?:fill|style\*)=\"(?:stroke: )?(#\w{6})\"\] \{ (?:fill|stroke): (#\w{6})", found[1])
    assert len(pairs) == found[1].count("{") > 2
    svg = svg.replace(found[0], "")
    for light, dark in pairs:
        svg = svg.replace(light, dark)
    return svg


def ground(svg: str) -> str:
    """The colour of the first rectangle that has one: it fills the picture."""
    found = re.search(r'<rect [^>]*?fill="(#\w{6})"', svg)
    assert found is not None
    return found[1]


def rules(svg: str) -> dict[str, str]:
    """class -> colour, in a picture of rich's."""
    return dict(re.findall(r"\.([\w-]+) \{ fill: (#\w{6})", svg))


def inks_of_words(
    element: ElementTree.Element, of_class: dict[str, str], fill: str = "#000000", word: bool = False
) -> Iterator[str]:
    """The colour of every element of text and of every glyph of matplotlib's groups of them."""
    style, tag = element.get("style", ""), element.tag.rpartition("}")[2]
    own = re.search(r"(?:^|; ?)fill: (#\w{6})", style)
    fill = own[1] if own else of_class.get(element.get("class", "")) or element.get("fill", fill)
    word = word or tag == "text" or element.get("id", "").startswith("text_")
    assert not (word and "opacity" in style), "an ink that is mixed with its ground is not the one that was chosen"
    if word and tag in ("text", "use", "path"):
        yield fill
    for child in element:
        if child.tag.rpartition("}")[2] != "defs":
            yield from inks_of_words(child, of_class, fill, word)


def contrast(one: str, other: str) -> float:
    """Of two colours, from 1 to 21 (WCAG 2.2, relative luminance and contrast ratio)."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_contrasts_are_those_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # WCAG's example of what just fails
    assert contrast("#ff0000", "#ff0000") == 1


def test_a_word_in_a_faint_colour_is_found() -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" fill="#111111"><rect fill="#ffffff"/><g id="text_1">'
        '<g style="fill: #aaaaaa"><defs><path/></defs><use/></g><use/></g>'
        '<path style="fill: #bbbbbb"/><text class="r1">a</text></svg>'
    )
    assert list(inks_of_words(ElementTree.fromstring(svg), {"r1": "#cccccc"})) == ["#aaaaaa", "#111111", "#cccccc"]


# Results that are committed.

COMPARED = sorted((ROOT / "benchmarks" / "results").glob("compare*.json"))


@pytest.mark.parametrize("result", COMPARED, ids=lambda path: path.stem)
def test_a_committed_comparison_is_drawn_as_a_page_whenever_it_was_written(result: Path) -> None:
    written = json.loads(result.read_text("utf-8"))
    page = compare_page(written)
    assert all(f"{arm}<br>" in page for arm in written["greedy"]) and "<svg" in page


def test_what_is_no_comparison_is_told_by_what_it_lacks() -> None:
    written = json.loads(COMPARED[0].read_text("utf-8"))
    del written["curves"], written["greedy"]
    with pytest.raises(ConfigurationError, match="no result of a comparison: it lacks curves, greedy; compare.json"):
        compare_page(written)
