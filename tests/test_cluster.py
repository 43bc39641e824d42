"""The arithmetic of docs/cluster.md, against sums done by hand, and the table that the page shows."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "cluster.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="there are no benchmarks beside an installed wheel")


@pytest.fixture(scope="module")
def paper() -> SimpleNamespace:
    found = SimpleNamespace(**runpy.run_path(str(SCRIPT), run_name="cluster"))
    # a billion parameters in ten layers; a step decodes in 10 ms and learns at 1e14 operations a second
    found.model = found.Model("1 B", 1e9, 10, 100)
    found.costs = found.Costs(layer_seconds=0.001, flops=1e14, judge_seconds=0.5, network=1e9)
    found.load = found.Load(steps=100, episodes=100, turns=2, prompt=50, tokens=200)
    return found


def test_the_seconds_of_a_step(paper: SimpleNamespace) -> None:
    one = paper.step_seconds(paper.model, paper.load, paper.costs, paper.Way(1))
    assert one == pytest.approx({"playing": 400 * 0.010, "learning": 8e9 * 100 * 500 / 1e14, "network": 0.0})
    four = paper.step_seconds(paper.model, paper.load, paper.costs, paper.Way(4))
    assert four["playing"] == one["playing"], "fewer rows of a GPU make no decoding step shorter"
    assert four["learning"] == pytest.approx(one["learning"] / 4)
    assert four["network"] == pytest.approx(2 * 4e9 * 3 / 4 / 1e9)
    adapters = paper.step_seconds(paper.model, paper.load, paper.costs, paper.Way(4, lora=True))
    assert adapters["learning"] == pytest.approx(four["learning"] * 6 / 8)
    assert adapters["network"] == 0


def test_decoding_is_never_faster_than_reading_the_weights(paper: SimpleNamespace) -> None:
    slow = paper.Model("1 T", 1e12, 10, 0)
    parts = paper.step_seconds(slow, paper.load, paper.costs, paper.Way(1))
    assert parts["playing"] == pytest.approx(400 * 2e12 / 3e12)
    served = paper.step_seconds(slow, paper.load, paper.costs, paper.Way(16, served=True))
    assert served["playing"] == pytest.approx(parts["playing"] / 8)


def test_the_memory_of_a_gpu(paper: SimpleNamespace) -> None:
    caches = 100 / 4 * 500 * (2 * 2 * 10 * 100)
    four = paper.memory_bytes(paper.model, paper.load, paper.costs, paper.Way(4))
    assert four == {"loading": 8e9, "playing": 5e9 + 2e9 + caches, "learning": 5e9 + paper.costs.activations}
    adapters = paper.memory_bytes(paper.model, paper.load, paper.costs, paper.Way(4, lora=True))
    assert adapters == {"loading": 2e9, "playing": 2e9 + caches, "learning": 2e9 + paper.costs.activations}


def test_what_is_too_large_says_what_and_when(paper: SimpleNamespace) -> None:
    large = paper.Model("70 B", 70e9, 80, 1024)
    assert paper.too_large(large, paper.load, paper.costs, paper.Way(16)) == "522 GiB a GPU loading"
    assert paper.too_large(paper.model, paper.load, paper.costs, paper.Way(1)) == ""


def test_checker_cores_and_disk(paper: SimpleNamespace) -> None:
    assert paper.checker_cores(paper.load, paper.costs, 10.0) == pytest.approx(100 * 2 * 0.5 / 10)
    assert paper.disk_bytes(paper.model, paper.load, lora=False) == 3 * 12e9 + 4e9


def test_the_page_shows_what_the_script_prints(paper: SimpleNamespace) -> None:
    table = paper.table(paper.Load(), paper.MEASURED, [1, 8, 16])
    assert table in (ROOT / "docs" / "cluster.md").read_text("utf-8"), "run python benchmarks/cluster.py and paste it"
