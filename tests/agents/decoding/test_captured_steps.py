"""Steps that are captured, and looked at seldom: the code for a GPU, with a graph that only remembers what to call."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from one_batch import TOKENIZER, alone, decoding, request, to_the_end, with_lora
from small_models import llama
from torch.utils._python_dispatch import TorchDispatchMode

from selfcorrect.agents.decoding.fixed_step import CapturedSteps
from selfcorrect.agents.policies.ongoing import generating


class RememberedGraph:
    """Stands for a CUDA graph: replaying calls the step that was captured."""

    captured: CapturedSteps

    def replay(self) -> None:
        shape = next(shape for shape, graph in self.captured._graphs.items() if graph is self)
        self.captured._step(shape)


@dataclass
class PretendedGpu:
    """What was done to it: the memory pool of each capture, and how many weights the captured step casts."""

    pools: list[int] = field(default_factory=list)
    casts: list[int] = field(default_factory=list)


class CountCasts(TorchDispatchMode):
    """Counts the matrices that are cast to bfloat16."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.ops.aten._to_copy.default and given.get("dtype") is torch.bfloat16:
            self.count += isinstance(args[0], torch.nn.Parameter)
        return func(*args, **given)


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> PretendedGpu:
    seen, handles = PretendedGpu(), count()

    @contextmanager
    def capturing(graph: RememberedGraph, pool: int, capture_error_mode: str) -> Iterator[None]:
        parts = graph.captured._parts()
        before = [part.clone() for part in parts]
        with CountCasts() as casts:
            yield  # a capture computes nothing
        seen.pools.append(pool)
        seen.casts.append(casts.count)
        for part, value in zip(parts, before, strict=True):
            part.copy_(value)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", RememberedGraph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(handles))
    monkeypatch.setattr(CapturedSteps, "_try_out", lambda captured, shape: captured._step(shape))
    return seen


def captured_batch(monkeypatch: pytest.MonkeyPatch, model: Any = None, **options: Any) -> Any:
    batch = decoding(model, capture=True, steps_a_look=8, **options)
    monkeypatch.setattr(RememberedGraph, "captured", batch.captured, raising=False)
    return batch


@pytest.mark.slow
@pytest.mark.usefixtures("pretended_gpu")
def test_captured_steps_that_are_looked_at_seldom_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = captured_batch(monkeypatch, max_rows=16)
    asked = [request([3 + number % 5] * (1 + number % 3), seed=number, limit=5 + 9 * number) for number in range(12)]
    for number, one in enumerate(asked):
        batch.add(number, one)
    ended = to_the_end(batch)
    for number, one in enumerate(asked):
        expected = alone(one)
        assert (ended[number].ids, ended[number].stopped) == (expected.ids, expected.stopped)
        assert ended[number].logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert all(shape.rows in (8, 16) and shape.columns % 64 == 0 for shape in batch.captured._graphs)


def test_graphs_of_slots_that_moved_get_memory_of_their_own(
    monkeypatch: pytest.MonkeyPatch, pretended_gpu: PretendedGpu
) -> None:
    batch = captured_batch(monkeypatch, eos=[])
    batch.add(0, request([3], seed=0, limit=100))
    to_the_end(batch)
    assert pretended_gpu.pools == [0, 1]  # 64 columns, then 128: torch refuses the pool of graphs that are gone
    batch.add(0, request([3], seed=0, limit=100))
    to_the_end(batch)
    assert pretended_gpu.pools == [0, 1, 1]


@pytest.mark.usefixtures("pretended_gpu")
def test_slots_are_made_as_long_as_their_rows_may_become_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for room_bytes in (0, 10**9):
        batch = captured_batch(monkeypatch, eos=[], room_bytes=room_bytes)
        batch.add(0, request([3], seed=0, limit=100))
        to_the_end(batch)
        moved.append(batch._store.generation)
    assert moved == [2, 1]


def test_a_captured_step_casts_every_weight_itself_though_autocast_remembers_some(
    monkeypatch: pytest.MonkeyPatch, pretended_gpu: PretendedGpu
) -> None:
    model = llama(len(TOKENIZER))
    linear = sum(isinstance(module, torch.nn.Linear) for module in model.modules())
    # as accelerate prepares a model: the surroundings' cache_enabled=False does not reach into it
    monkeypatch.setattr(model, "forward", torch.autocast("cpu", torch.bfloat16)(model.forward))
    batch = captured_batch(monkeypatch, model, eos=[])
    batch.add(0, request([3], seed=0, limit=100))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        to_the_end(batch)
    assert pretended_gpu.casts == [linear] * 2


@pytest.mark.usefixtures("pretended_gpu")
def test_the_device_goes_on_while_the_host_sees_to_those_who_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = captured_batch(monkeypatch, eos=[])
    batch.add(1, request([3], seed=1, limit=200))
    batch.add(2, request([4], seed=2, limit=10))
    with torch.no_grad():
        answered = batch.advance()
    assert [number for number, _ in answered] == [2]
    assert batch.steps == 24  # two looks brought the short row to its end; a third is under way
    assert len(next(iter(batch._running.values())).ids) == 17
    expected = alone(request([3], seed=1, limit=200)).ids
    assert to_the_end(batch)[1].ids[: len(expected)] == expected


def test_a_stop_text_ends_a_row_where_it_stands_however_seldom_it_is_looked_for() -> None:
    free = alone(request([3, 4], seed=5))
    words = TOKENIZER.decode(free.ids[2:3])
    stopped = request([3, 4], seed=5, stop=(words,))
    batch = decoding(steps_a_look=8)
    batch.add(0, stopped)
    ended = to_the_end(batch)[0]
    expected = alone(stopped)
    assert ended.ids == expected.ids and ended.logprobs == pytest.approx(expected.logprobs, abs=1e-5)
    assert ended.stopped and len(ended.ids) <= 3 and words in TOKENIZER.decode(ended.ids)


def test_a_step_that_cannot_be_captured_is_run_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    one = request([3, 4], seed=7)
    batch = decoding(capture=True, steps_a_look=8)  # on a machine without a GPU
    batch.add(0, one)
    assert to_the_end(batch)[0].ids == alone(one).ids
    assert "not captured as CUDA graphs" in caplog.text


def test_no_cast_weight_is_remembered_in_a_captured_step_of_a_model_that_accelerate_trains() -> None:
    """accelerate's wrapping has an autocast of its own, made where weights are remembered. A graph that was captured
    with a remembered copy of an adapter would go on reading it, whatever the adapter learns."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    model, seen = with_lora(len(TOKENIZER)), list[tuple[bool, torch.dtype]]()
    model.base_model.model.model.embed_tokens.register_forward_hook(
        lambda *_: seen.append((torch.is_autocast_cache_enabled(), torch.get_autocast_dtype("cpu")))
    )
    AcceleratorState._reset_state(reset_partial_state=True)  # of trainers in tests before
    try:
        prepared = Accelerator(mixed_precision="bf16", cpu=True).prepare_model(model)
        for cached in (True, False):
            with generating(prepared, torch.bfloat16, cached=cached):
                prepared(input_ids=torch.tensor([[3, 4]]))
        prepared(input_ids=torch.tensor([[3, 4]]))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    assert seen == [(remembered, torch.bfloat16) for remembered in (True, False, True)]


@pytest.mark.slow
def test_the_benchmark_for_gpus_runs_here_on_a_tiny_model(tmp_path: Path, warm_python: str) -> None:
    script, found = Path(__file__).parents[3] / "benchmarks" / "gpu.py", tmp_path / "gpu.json"
    command = [warm_python, str(script), "--tiny", "--device", "cpu", "--json", str(found)]
    command += ["--profile", str(tmp_path / "profile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {row["what"]: row for row in json.loads(found.read_text())["rows"]}
    assert not [row for row in rows.values() if "error" in row]
    ways = ["graph, dynamic", "graph, static", "generate", "generate, no cuDNN", "generate, static"]
    assert all(rows[way]["tokens_per_second"] > 0 for way in ways)
    parts = ["playing", "judging, alone", "scoring by the reference", "update", "step"]
    assert all(rows[f"PPO, {way}: {part}"]["seconds"] > 0 for way in ("dynamic", "static") for part in parts)
    apart = rows["check, float32: log-probabilities apart"]
    assert max(apart["before_update"], apart["after_update"]) < 1e-4 < apart["weights_moved"]
    assert rows["check, float32: greedy answers alike"]["share"] == 1
    assert list(tmp_path.glob("profile/static-*.txt"))
