"""Every notebook runs from top to bottom, without the network, and is shipped with its outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

needs_checkout = pytest.mark.skipif(not NOTEBOOKS, reason="needs the checkout")


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def kernels_of(python: str) -> type[AsyncKernelManager]:
    class Kernels(AsyncKernelManager):
        @property
        def kernel_spec(self) -> Any:
            spec = super().kernel_spec
            spec.argv[0] = python
            return spec

    return Kernels


def has_plot(notebook: Any) -> bool:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return any("image/png" in output.get("data", {}) for output in outputs)


@needs_checkout
def test_the_notebooks_are_these() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "01_one_episode",
        "02_define_your_own_graph",
        "03_train_a_correction_policy",
        "04_plug_into_an_agent",
        "05_checkers_and_rewards",
        "06_your_own_data_and_model",
        "07_code_with_unit_tests",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_shipped_with_its_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert has_plot(notebook)
    for cell in notebook.cells:
        assert all(output.output_type != "error" for output in cell.get("outputs", []))
        assert "/tmp/" not in cell.source and "/home/" not in str(cell.get("outputs", ""))


# The kernel of a notebook is a process of its own and talks over sockets of this machine.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_python: str
) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("STAND_IN", "1")  # where SmolLM2 is installed, 06 would take minutes
    notebook = read(path)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_manager_class=kernels_of(warm_python), resources=where).execute()
    assert has_plot(notebook)
