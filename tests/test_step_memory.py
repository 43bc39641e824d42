"""What `benchmarks/step_memory.py` counts, against what can be said of it without counting."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "step_memory.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="there are no benchmarks beside an installed wheel")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("step_memory", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "step_memory", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "bytes_kept", "bytes_of_gradients"),
    [("all weights", 16, 4), ("pure_bf16", 12, 2)],  # weights, two moments, reference
)
def test_weights_moments_and_reference_are_counted_to_the_byte(
    script: Any, name: str, bytes_kept: int, bytes_of_gradients: int
) -> None:
    way = next(way for way in script.WAYS if way.name == name)
    size = script.SIZES["tiny"]
    model = script.model_of(size, way)
    parameters, tensors = model.num_parameters(), len(list(model.parameters()))
    held, peak = script.peak_of(size, way)
    assert 0 <= held - bytes_kept * parameters < 5 * (tensors + 4) * script.BLOCK
    assert peak > held + bytes_of_gradients * parameters


def test_what_nobody_holds_is_not_counted_any_more(script: Any) -> None:
    with script.FakeTensorMode(), script.Live() as live:
        kept = torch.empty(1024)
        gone = torch.empty(4096) + 1
        seen = gone.view(64, 64)
        assert live.bytes == 4 * (1024 + 4096), "the view is no storage of its own"
        del gone, seen
        assert live.bytes == 4 * 1024
        assert live.peak == 4 * (1024 + 2 * 4096)
        del kept
    assert live.bytes == 0
