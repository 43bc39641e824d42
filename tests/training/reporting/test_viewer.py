"""The viewer of episodes, in a real browser where there is one, and the traces that it exports."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import word_tokenizer

from selfcorrect.cli.app import app
from selfcorrect.errors import ConfigurationError
from selfcorrect.training.compare.report import compare_page
from selfcorrect.training.reporting.page import report_page
from selfcorrect.training.reporting.viewer import export, reward_of, save_dataset, script_json, stored_rows, viewer_page
from selfcorrect.training.runs.stored_episodes import pieces_of, token_records
from selfcorrect.training.settings import DEMO

HOSTILE = '</script><img src=x onerror="window.broken = true">\u2028<!--'


def episode(number: int, *, policy: str = "training", **changes: Any) -> dict[str, Any]:
    """Two turns of two tokens: wrong, then right in every second one."""
    first = {
        "role": "attempt",
        "node": "think",
        "path": ["outer", "think"],
        "text": "3 +",
        "verdict": "wrong",
        "reason": "no",
        "reward": 0.0,
        "learns": True,
        "after": None,
        "prompt": "add",
        "tokens": {"prompt_ids": [9], "ids": [1, 2], "pieces": ["3", " +"], "logprobs": [-0.1, -1 / 3]}
        | {"advantages": [0.30000001192092896, -0.5]},
    }
    last = first | {"node": "mend", "path": ["mend"], "verdict": "correct" if number % 2 else "wrong", "after": 0}
    last |= {"reward": float(number % 2), "text": f"answer {number}"}
    problem = {"id": f"p{number}", "prompt": f"problem {number}", "reference": 8}
    return {"step": 1, "policy": policy, **problem, "turns": [first, last], "stop_reason": "revisions", **changes}


def a_run(folder: Path, count: int, *, name: str = "training_episodes.jsonl", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    rows = [episode(number, **changes) for number in range(count)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_a_folder_without_episodes_says_what_writes_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="store_episodes"):
        viewer_page([tmp_path])


def test_a_line_that_a_crash_tore_is_left_out(tmp_path: Path) -> None:
    file = a_run(tmp_path, 2) / "training_episodes.jsonl"
    file.write_text(file.read_text() + '{"step": 2, "id": "torn')
    assert [row["id"] for row in stored_rows(tmp_path)] == ["p0", "p1"]


@given(st.text())
def test_nothing_that_a_model_wrote_can_end_the_data(text: str) -> None:
    written = script_json([text])
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == [text]


@given(st.lists(st.integers(0, 255), max_size=40))
def test_pieces_of_bytes_make_up_the_text(values: list[int]) -> None:
    class Bytes:
        def decode(self, ids: list[int], **_: Any) -> str:
            return bytes(ids).decode("utf-8", errors="replace")

    text = list("é≠x😀".encode()) + values
    pieces = pieces_of(Bytes(), text)
    assert len(pieces) == len(text) and pieces[:10] == ["", "é", "", "", "≠", "x", "", "", "", "😀"]
    if "\ufffd" not in Bytes().decode(text):
        assert "".join(pieces) == Bytes().decode(text)


def test_a_call_that_goes_on_stores_only_what_is_new() -> None:
    tokenizer = word_tokenizer(["3", "+", "5", "="])
    ids = tokenizer("3 + 5 =")["input_ids"]
    one = {"prompt_ids": ids[:1], "completion_ids": ids[1:2], "logprobs": [-0.5]}
    two = {"prompt_ids": ids[:3], "completion_ids": ids[3:], "logprobs": [-0.25] * len(ids[3:])}
    other = {"prompt_ids": ids[2:3], "completion_ids": ids[:1], "logprobs": [-1.0]}
    first, second, third = token_records([one, two, other], tokenizer)  # type: ignore[list-item]
    assert (first["after"], second["after"], third["after"]) == (None, 0, None)
    assert second["tokens"]["prompt_ids"] == ids[2:3] and third["tokens"]["prompt_ids"] == ids[2:3]


def test_spans_are_of_calls_in_episodes(tmp_path: Path) -> None:
    spans = [json.loads(line) for line in export("otel", [a_run(tmp_path, 1)])]
    assert [span["name"] for span in spans] == ["invoke_agent selfcorrect", "chat think", "chat mend"]
    assert {span["parent_id"] for span in spans[1:]} == {spans[0]["span_id"]}
    assert spans[1]["attributes"]["selfcorrect.advantages"] == [0.30000001192092896, -0.5]
    with pytest.raises(ConfigurationError, match="verifiers, otel and datasets"):
        list(export("csv", [tmp_path]))


def test_a_dataset_has_every_digit_of_every_token(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    run = a_run(tmp_path / "run", 3)
    save_dataset([run], tmp_path / "data")
    read, rows = datasets.load_from_disk(str(tmp_path / "data")), stored_rows(run)
    assert len(read) == len(rows) == 3
    for kept, row in zip(read, rows, strict=True):
        assert (kept["run"], kept["id"], json.loads(kept["reference"])) == ("run", str(row["id"]), row.get("reference"))
        assert kept["reward"] == reward_of(row)
        for turn, told in zip(kept["turns"], row["turns"], strict=True):
            assert turn["text"] == told["text"] and turn["node"] == told.get("node")
            tokens = told.get("tokens") or {}
            for name in ("prompt_ids", "ids", "logprobs", "advantages"):
                assert turn[name] == tokens.get(name)


def test_the_command_writes_a_page_or_traces_and_not_both(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["view", *map(str, arguments)])

    folder = a_run(tmp_path / "run", 2)
    assert run(folder).exit_code == 0 and (folder / "episodes.html").is_file()
    assert run(folder, "--export", f"verifiers:{tmp_path / 'traces.jsonl'}").exit_code == 0
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 2
    assert run(folder, "--export", "verifiers").exit_code == 2
    assert run(folder, "--export", f"datasets:{tmp_path / 'data'}").exit_code == 0
    again = run(folder, "--export", f"datasets:{tmp_path / 'data'}")
    assert again.exit_code == 2 and "is not empty" in " ".join(again.output.split())
    assert run(folder, "--export", "otel:x", "--serve").exit_code == 2


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def shown(browser: Any, folder: Path, *runs: Path, width: int = 1280, html: str | None = None) -> Any:
    """The page of `runs`, or `html`, in a window of that many CSS pixels."""
    page = folder / "page.html"
    page.write_text(viewer_page(runs) if html is None else html, encoding="utf-8")
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(page.as_uri())
    return browser


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def text(browser: Any, id: str) -> str:
    return str(browser.find_element("id", id).text)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_what_a_model_wrote_is_text_in_the_browser(browser: Any, tmp_path: Path, width: int) -> None:
    hostile = episode(1, prompt=HOSTILE, id=HOSTILE, stop_reason=HOSTILE)
    hostile["turns"][0] |= {"text": HOSTILE, "reason": HOSTILE, "path": [HOSTILE], "prompt": HOSTILE}
    hostile["turns"][0]["tokens"]["pieces"] = [HOSTILE, "w" * 500]
    (tmp_path / "episodes.jsonl").write_text(json.dumps(hostile) + "\n")
    page = shown(browser, tmp_path, tmp_path, width=width)
    press(page, "\ue007")
    assert page.execute_script("return window.broken === undefined && !document.querySelector('img')")
    assert HOSTILE.split("\u2028")[0] in text(page, "detail")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert page.get_log("browser") == []


@pytest.mark.slow
def test_thousands_of_episodes_are_filtered_and_few_are_drawn(browser: Any, tmp_path: Path) -> None:
    page = shown(browser, tmp_path, a_run(tmp_path / "run", 5000))
    assert text(page, "count") == "5000 of 5000 episodes"
    drawn = "return document.querySelectorAll('.item').length"
    assert 0 < page.execute_script(drawn) < 60
    choose = (
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('input'))"
    )
    for field, value, left in (("outcome", "mended", 2500), ("problem", "p4999", 1), ("outcome", "spoilt", 0)):
        page.execute_script(choose, field, value)
        assert text(page, "count") == f"{left} of 5000 episodes"
    for field in ("problem", "outcome"):
        page.execute_script(choose, field, "")
    for field, value, left in (("node", "outer/think", 5000), ("turns", "3", 0), ("turns", "2", 5000)):
        page.execute_script(choose, field, value)
        assert text(page, "count") == f"{left} of 5000 episodes"
    page.execute_script(choose, "reward0", "0.5")
    assert text(page, "count") == "2500 of 5000 episodes"
    page.execute_script(choose, "length1", "3")
    assert text(page, "count") == "0 of 5000 episodes"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_keys_walk_search_colour_and_darken(browser: Any, tmp_path: Path, width: int) -> None:
    page = shown(browser, tmp_path, a_run(tmp_path / "run", 300), width=width)
    press(page, "j", "\ue015", "k", "\ue007")  # down, arrow down, up, Enter
    assert "problem 1" in text(page, "detail") and "outer/think" in text(page, "detail")
    press(page, "l", "\ue014")
    assert "log-probability -0.3333" in text(page, "token") and "advantage -0.5" in text(page, "token")
    colour = "return getComputedStyle(document.querySelector('.t')).backgroundColor"
    unlikely = page.execute_script(colour)
    press(page, "c")
    assert page.execute_script(colour) != unlikely
    before = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    press(page, "d")
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    press(page, "/", *"answer 299")
    assert text(page, "count") == "1 of 300 episodes"
    press(page, "\ue00c", "?")
    assert page.execute_script("return document.getElementById('keys').open")
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert page.get_log("browser") == []


@pytest.mark.slow
def test_two_runs_stand_side_by_side_by_problem(browser: Any, tmp_path: Path) -> None:
    runs = [a_run(tmp_path / "one", 3), a_run(tmp_path / "two", 2, policy="after")]
    page = shown(browser, tmp_path, *runs)
    press(page, "b", "b")  # the first source, then the second
    assert page.execute_script("return document.querySelectorAll('#detail article').length") == 2
    assert "two · after" in text(page, "detail") and "one · training" in text(page, "detail")
    press(page, "j", "j")
    assert "has no other episode of this problem" in text(page, "detail")


FAINT = """
const rgba = (text) => { const found = text.match(/[\\d.]+/g).map(Number); if (found.length < 4) found.push(1);
  return text.startsWith('color(') ? [...found.slice(0, 3).map((part) => 255 * part), found[3]] : found; };
const over = (top, ground) => ground.map((part, i) => i < 3 ? top[i] * top[3] + part * (1 - top[3]) : 1);
const light = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => { const part = colour[i] / 255;
  return sum + weight * (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4); }, 0);
const ground = (element) => element === null ? [255, 255, 255, 1]
  : over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement));
const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
let seen = 0;
while (words.nextNode()) {
  const element = words.currentNode.parentElement, box = element.getBoundingClientRect();
  if (!words.currentNode.data.trim() || !box.width || ['SCRIPT', 'STYLE', 'OPTION'].includes(element.tagName)) continue;
  let style = getComputedStyle(element), behind = ground(element);
  let ink = rgba(element.closest('svg') ? style.fill : style.color);
  for (let at = element; at; at = at.parentElement) ink[3] *= Number(getComputedStyle(at).opacity);
  const [dark, bright] = [light(over(ink, behind)), light(behind)].sort((a, b) => a - b);
  seen += 1;
  if ((bright + 0.05) / (dark + 0.05) < 4.5) faint.push(words.currentNode.data.trim());
}
return [seen, faint];
"""
"""How many pieces of text a page shows, and those whose contrast is below WCAG's 4.5."""


def pages_shown(folder: Path) -> dict[str, str]:
    """A viewer, a report of a run and, in a checkout, the page of the committed comparison."""
    steps = [{"step": n, "stage": n // 3, "accuracy_t1": 0.3, "accuracy_t2": n / 9, "kl_t2": 0.1} for n in range(1, 6)]
    before = {"n": 20, "accuracy": [0.4, 0.5], "accuracy_ci95": [[0.3, 0.5], [0.4, 0.6]], "accuracy_t1": 0.4}
    before |= {"accuracy_t2": 0.5, "delta": 0.1, "delta_ci95": [0.02, 0.2], "i_to_c": 0.2, "c_to_i": 0.1}
    before |= {"unchanged": 0.5, "tokens_per_turn": [2.0, 2.0]}
    rows = [row for kind in ("before", "after") for row in (episode(1, policy=kind), episode(2, policy=kind))]
    final: Any = {"before": before, "after": before | {"delta_ci95": [0.3, 0.4]}}
    found = {"viewer": viewer_page([a_run(folder / "run", 20)])}
    found["report"] = report_page(settings=DEMO, steps=steps, final=final, episodes=rows)
    if COMPARED.is_file():
        found["compare"] = compare_page(json.loads(COMPARED.read_text("utf-8")))
    return found


COMPARED = Path(__file__).parents[3] / "benchmarks" / "results" / "compare.json"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_word_of_a_page_has_the_contrast_that_wcag_asks_for(
    browser: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    try:
        for name, html in pages_shown(tmp_path).items():
            shown(browser, tmp_path, html=html, width=width)
            if name == "viewer":
                press(browser, "\ue007", "l", "c")  # an episode, a token of it, the other colours
            seen, faint = browser.execute_script(FAINT)
            assert seen > 20 and faint == [], name
            assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), name
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.slow
def test_a_word_that_is_too_faint_is_found(browser: Any, tmp_path: Path) -> None:
    words = "<p style='color: #767676'>dark enough<b style='opacity: 0.9'>too faint</b></p>"
    page = shown(
        browser, tmp_path, html=f"<body style='background: #fff'>{words}<svg><text fill='#aaa'>grey</text></svg>"
    )
    assert page.execute_script(FAINT) == [3, ["too faint", "grey"]]
