import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from selfcorrect.training.compare.report import compare_page
from selfcorrect.training.reporting import rows
from selfcorrect.training.reporting.charts import (
    CHARTS,
    Flips,
    chart_svg,
    charts_of,
    flips_svg,
    readable_limit,
    running_mean,
)
from selfcorrect.training.reporting.page import report_page
from selfcorrect.training.reporting.rows import chosen, kind_of, render, result_rows
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import DEMO

BEFORE = {
    "n": 2000,
    "accuracy": [0.5, 0.46],
    "accuracy_ci95": [[0.478, 0.522], [0.438, 0.482]],
    "accuracy_t1": 0.5,
    "accuracy_t2": 0.46,
    "delta": -0.04,
    "delta_ci95": [-0.05, -0.03],
    "i_to_c": 0.02,
    "c_to_i": 0.06,
    "unchanged": 0.8,
    "tokens_per_turn": [15.0, 15.25],
}
AFTER = BEFORE | {
    "accuracy": [0.5, 0.55],
    "accuracy_ci95": [[0.478, 0.522], [0.528, 0.572]],
    "accuracy_t2": 0.55,
    "delta": 0.05,
    "delta_ci95": [0.04, 0.06],
    "i_to_c": 0.06,
    "c_to_i": 0.01,
}
MANY = {
    "accuracy": [turn / 10 for turn in range(9)],
    "accuracy_ci95": [[turn / 10, turn / 10 + 0.05] for turn in range(9)],
    "tokens_per_turn": [1.0] * 9,
    "tokens": 9.0,
    "answers": 4.5,
    "stopped": 0.75,
    "stopped_right": 0.9,
    "stopped_right_ci95": [0.88, 0.92],
}
STEPS = [
    {"step": n, "stage": 1 + n // 6, "accuracy_t1": 0.3, "accuracy_t2": 0.3 + n / 100, "delta": n / 100, "kl_t2": None}
    for n in range(1, 11)
]


def row(name: str, first: str, last: str, policy: str = "after", prompt: str = "3 5 get 8 :") -> dict[str, Any]:
    turns = [
        {"role": role, "text": "3 + 5 = 8", "verdict": verdict, "answer": None, "reason": "because"}
        for role, verdict in (("attempt", first), ("revise", last))
    ]
    return {"id": name, "policy": policy, "prompt": prompt, "reference": 8, "turns": turns, "stop_reason": "revisions"}


def page(**changes: Any) -> str:
    parts: dict[str, Any] = {
        "settings": DEMO,
        "steps": STEPS,
        "final": {"before": BEFORE, "after": AFTER},
        "episodes": [row("a", "wrong", "correct"), row("a", "wrong", "wrong", policy="before")],
    }
    return report_page(**(parts | changes))


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = page()
    assert not re.search(r"<(script|link|img|iframe|object|embed)\b", html)
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", html)
    assert "@import" not in html and not re.search(r"url\((?!#)", html)


@pytest.mark.slow
def test_the_page_says_no_more_than_the_interval_allows() -> None:
    assert "it helps" in page()
    unsure = AFTER | {"delta": 0.01, "delta_ci95": [-0.01, 0.03]}
    assert "cannot be told from no change" in page(final={"before": BEFORE, "after": unsure})
    worse = AFTER | {"delta": -0.05, "delta_ci95": [-0.06, -0.04]}
    assert "it harms" in page(final={"before": BEFORE, "after": worse})


def test_alarms_are_told_with_the_steps_at_which_they_stood() -> None:
    steps = [{"step": number, "stage": 1, "delta": 0.0} for number in range(1, 6)]
    assert "Alarms" not in page(steps=steps)
    raised = page(steps=[{**step, "alarm/copying": 1.0} if step["step"] in (3, 4) else step for step in steps])
    assert "copying: 2 steps, first 3, last 4" in raised


@pytest.mark.slow
def test_a_page_says_which_arm_it_is_about() -> None:
    assert "SCoRe on" in page() and "the arm multi-turn on" in page(arm="multi-turn")


@pytest.mark.slow
def test_a_page_of_an_unfinished_or_unjudged_run_can_be_made() -> None:
    assert "not finished" in page(final=None, episodes=[])
    assert "Settings" in page(final=None, episodes=[], steps=[])
    nothing = dict.fromkeys(("delta", "accuracy_t1", "accuracy_t2", "i_to_c", "c_to_i"))
    nothing |= {"n": 3, "delta_ci95": [None, None], "accuracy": [None], "accuracy_ci95": [[None, None]]}
    assert "cannot be said" in page(final={"before": nothing, "after": nothing})


@given(st.text(max_size=40))
def test_whatever_a_policy_writes_is_shown_as_text(text: str) -> None:
    shown = row("a", "wrong", "correct", prompt=text)
    shown["turns"][0]["text"] = f"<script>{text}"
    html = page(steps=[], final=None, episodes=[shown])
    assert "<script" not in html
    assert html.count("<article") == 1 and html.count("</article>") == 1
    assert f"<code>{text}</code>" in unescape(html)


def test_a_template_that_lacks_a_value_says_so_instead_of_leaving_a_gap() -> None:
    with pytest.raises(UndefinedError, match="'finding' is undefined"):
        render("run.html", task="t", lead="l", rows=[], charts=[], alarms={}, episodes=[], yaml="")


def test_every_page_extends_the_one_base() -> None:
    templates = Path(rows.__file__).parent / "templates"
    pages = [path for path in templates.glob("*.html") if "{% block body %}" in path.read_text(encoding="utf-8")]
    assert {path.name for path in pages} == {
        "base.html",
        "run.html",
        "compare.html",
        "quiet_star.html",
        "verifiers.html",
        "viewer.html",
    }
    for path in pages:
        assert path.name == "base.html" or path.read_text(encoding="utf-8").startswith('{% extends "base.html" %}')


def test_rows_carry_intervals_and_are_coloured_only_where_these_part() -> None:
    rows = {found.name: found for found in result_rows(BEFORE, AFTER)}
    assert rows["accuracy_t2"].values == ("0.460", "0.550")
    assert rows["accuracy_t2"].intervals == ("[0.438, 0.482]", "[0.528, 0.572]")
    assert rows["delta"].values == ("-0.040", "+0.050")
    assert rows["tokens_per_turn"].values == ("15.0 / 15.2",) * 2
    changes = {name: rows[name].change for name in rows}
    assert changes["accuracy_t1"] == "same" and changes["accuracy_t2"] == changes["delta"] == "better"
    assert changes["i_to_c"] == "same"  # it has no interval


def test_accuracies_of_more_turns_come_in_order() -> None:
    three = {"accuracy": [0.1, 0.2, 0.3], "accuracy_ci95": [[0, 1]] * 3, "delta": None}
    rows = result_rows(three)
    assert [found.label for found in rows] == ["accuracy@1", "accuracy@2", "accuracy@3", "delta (last − first)"]
    assert rows[-1].values == ("–",)


def test_of_single_answers_no_change_is_told() -> None:
    once = AFTER | {"accuracy": [0.5], "accuracy_ci95": [[0.4, 0.6]]}
    assert not {"accuracy_t2", "delta", "i_to_c", "c_to_i", "unchanged"} & {row.name for row in result_rows(once)}
    assert "delta" in {row.name for row in result_rows(once | {"stopped": 1.0})}  # it might have revised, and did not


def test_flips_are_shares_that_sum_to_one() -> None:
    flips = Flips.of(AFTER)
    assert (flips.c_to_c, flips.c_to_i, flips.i_to_c, flips.i_to_i) == pytest.approx((0.49, 0.01, 0.06, 0.44))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_any_flips_can_be_drawn(c_to_c: int, c_to_i: int, i_to_c: int, i_to_i: int) -> None:
    n = c_to_c + c_to_i + i_to_c + i_to_i
    report = {"accuracy_t1": (c_to_c + c_to_i) / n, "i_to_c": i_to_c / n, "c_to_i": c_to_i / n}
    svg = flips_svg(report, "after")
    assert svg.count("<path") == sum(count > 0 for count in (c_to_c, c_to_i, i_to_c, i_to_i))
    assert 'height="-' not in svg and "nan" not in svg
    kept = re.search(r">stayed correct ([\d.]+)%, incorrect ([\d.]+)%<", svg)  # no need to point at the bands
    assert kept is not None
    assert [float(share) for share in kept.groups()] == pytest.approx([100 * c_to_c / n, 100 * i_to_i / n], abs=0.051)


def test_charts_take_their_ink_from_the_page_and_leave_out_what_was_not_measured() -> None:
    accuracy, _, flips, kl = (chart_svg(chart, STEPS) for chart in CHARTS)
    assert accuracy.startswith("<svg") and "currentColor" in accuracy and "#010203" not in accuracy
    assert "stage 2" in accuracy and "second answer" in accuracy
    assert flips == "" and kl == ""


def test_a_chart_of_one_step_can_be_drawn() -> None:
    assert chart_svg(CHARTS[0], STEPS[:1]).startswith("<svg")


def test_the_running_mean_looks_back_nine_steps() -> None:
    assert running_mean([3.0, 5.0]) == [3.0, 4.0]
    assert running_mean([100.0] + [1.0] * 9)[-1] == 1.0


def test_ten_episodes_show_each_kind_and_fewer_are_all_shown() -> None:
    kinds = [("wrong", "correct"), ("correct", "wrong"), ("correct", "correct"), ("unreadable", "wrong")]
    many = [row(f"{n}-{kind}", first, last) for n in range(8) for kind, (first, last) in enumerate(kinds)]
    picked = chosen(many)
    assert len(picked) == len({found["id"] for found in picked}) == 10
    assert [kind_of(found) for found in picked].count("fixed") == 4
    assert {kind_of(found) for found in picked} == {"fixed", "broken", "stayed correct", "stayed incorrect"}
    assert len(chosen(many[:3])) == 3
    only_fixed = [found for found in many if kind_of(found) == "fixed"] * 2
    assert len(chosen([found | {"id": str(n)} for n, found in enumerate(only_fixed)])) == 10


def test_an_unjudged_episode_is_called_so() -> None:
    assert kind_of(row("a", "unjudged", "correct")) == "unjudged"


def test_an_episode_that_no_checker_judges_is_rewarded_or_unjudged() -> None:
    paid, unpaid = ({"turns": [{"role": "plan", "reward": reward}]} for reward in (0.0, None))
    assert (kind_of(paid), kind_of(unpaid)) == ("rewarded", "unjudged")


def test_an_axis_of_what_is_never_negative_has_no_negative_marks() -> None:
    def drawn(*values: float) -> str:
        return chart_svg(
            CHARTS[0], [{"step": step, "stage": 1, "accuracy_t1": value} for step, value in enumerate(values)]
        )

    assert "\N{MINUS SIGN}" not in drawn(0.0, 0.0) + drawn(0.0, 0.5)
    assert "\N{MINUS SIGN}" in drawn(-0.1, 0.5)


def test_a_run_directory_writes_its_report_from_its_files(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, DEMO)
    for step in STEPS:
        run.append_metrics(step)
    run.write_final(BEFORE, AFTER)
    run.write_report()
    assert f"10 of {DEMO.score.total_steps} steps" in run.report_path.read_text(encoding="utf-8")


def test_an_axis_is_cut_off_where_one_value_towers_over_the_rest() -> None:
    usual = [0.1 + 0.001 * step for step in range(40)]
    assert readable_limit(usual) is None
    limit = readable_limit([*usual, 2500.0])
    assert limit is not None and max(usual) < limit < 1.0
    assert readable_limit([]) is None and readable_limit([0.0, 0.0]) is None


def test_a_chart_that_was_cut_off_says_how_high_it_went() -> None:
    kl = next(chart for chart in CHARTS if chart.clipped)
    steps = [{"step": step, "stage": 1, "kl_t1": 0.1} for step in range(40)]
    assert "up to" not in chart_svg(kl, steps)
    assert "up to 2.5e+03" in chart_svg(kl, [*steps, {"step": 41, "stage": 1, "kl_t1": 2500.0}])


def test_of_many_answers_the_powers_of_two_and_the_last_are_shown() -> None:
    rows = {row.name: row.values[0] for row in result_rows(MANY)}
    assert [name for name in rows if name.startswith("accuracy")] == [f"accuracy_t{turn}" for turn in (1, 2, 4, 8, 9)]
    assert (rows["stopped"], rows["stopped_right"], rows["answers"]) == ("0.750", "0.900", "4.500")
    assert "tokens_per_turn" not in rows


def test_own_stops_have_no_row_where_nothing_stopped() -> None:
    assert not {"stopped", "stopped_right", "answers"} & {row.name for row in result_rows(MANY | {"stopped": 0.0})}


def test_three_answers_have_rows_and_curves_for_every_turn() -> None:
    by_turn = {"delta_by_turn": [0.1, 0.05], "i_to_c_by_turn": [0.12, 0.06], "c_to_i_by_turn": [0.02, 0.01]}
    report = AFTER | by_turn | {"accuracy": [0.5, 0.6, 0.65], "accuracy_ci95": [[0.4, 0.6]] * 3}
    told = {row.label: row.values for row in result_rows(report)}
    assert told["accuracy@3"] == ("0.650",)
    assert told["delta, 1 → 2"] == ("+0.100",) and told["delta, 2 → 3"] == ("+0.050",)
    assert told["incorrect → correct, 2 → 3"] == ("0.060",) and told["correct → incorrect, 2 → 3"] == ("0.010",)
    assert not any("→ 3" in row.label for row in result_rows(AFTER | {"delta_by_turn": [0.05]}))
    steps = [step | {"accuracy_t3": 0.4, "kl_t3": 0.1, "delta_t2": 0.02, "delta_t3": 0.01} for step in STEPS]
    names = [{curve.name for curve in chart.curves} for chart in charts_of(steps)]
    assert names[0] == {"accuracy_t1", "accuracy_t2", "accuracy_t3"}
    assert {"delta_t2", "delta_t3"} in names and {"kl_t1", "kl_t2", "kl_t3"} in names
    assert charts_of(STEPS) == CHARTS and "third answer" in chart_svg(charts_of(steps)[0], steps)


@pytest.mark.slow
def test_a_first_step_that_towers_over_the_others_does_not_flatten_a_short_run() -> None:
    steps = [
        {"step": n, "kl_t1": 152.0 if n == 1 else 0.01 * n, "kl_t2": 152.0 if n == 1 else 0.02} for n in range(1, 7)
    ]
    assert "up to 152" in chart_svg(CHARTS[3], steps)
    assert "up to" not in chart_svg(CHARTS[3], steps[1:])


@pytest.mark.slow
def test_what_the_bands_mean_stands_on_the_page() -> None:
    for words in ("stayed correct", "fixed", "broken", "stayed incorrect"):
        assert f"</i> {words}</span>" in page()


def test_every_figure_of_a_comparison_says_what_it_is_where_a_phone_hides_the_heads_of_the_table() -> None:
    results = Path(__file__).parents[3] / "benchmarks" / "results" / "compare.json"
    if not results.is_file():
        pytest.skip("the results lie in the checkout")
    page = compare_page({"exams": {}} | json.loads(results.read_text("utf-8")))
    tables = re.findall(r'<table class="arms">.*?</table>', page, re.DOTALL)
    assert len(tables) == 3
    for table in tables:
        heads = re.findall(r"<th>([^<]*)</th>", table)[1:]
        rows = re.findall(r"<tr><td>.*?</tr>", table, re.DOTALL)
        told = [re.findall(r'data-head="([^"]*)"', row) for row in rows]
        assert rows and all(len(one) == len(heads) == row.count("<td") - 1 for one, row in zip(told, rows, strict=True))
        assert all(head.startswith(name) for one in told for name, head in zip(one, heads, strict=True))
