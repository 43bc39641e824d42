"""Services that are told of a run beside its folder: TensorBoard, trackio, Weights & Biases, MLflow.

The figures of a step go through transformers' callbacks, which the services' own environment variables steer
(TENSORBOARD_LOGGING_DIR, WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_DIR, ...). Sample episodes, or examples that are
learnt, follow as tables; TensorBoard has none and gets them as text.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from transformers import TrainerCallback

from selfcorrect.training.ppo.keeping import refuse_missing

if TYPE_CHECKING:
    from selfcorrect.training.arms.supervised.examples import Example
    from selfcorrect.training.ppo.rollouts import Episode

Row = Mapping[str, Any]
Item = TypeVar("Item")

_SHOWN = 8
"""Episodes of a step, or examples of a fit, that are shown."""


class Reporters(TrainerCallback):  # type: ignore[misc]
    """Tells the services `names` of one fit.

    Args:
        names: which; with none nothing is told.
        run_name: what they call the fit, unless `trl.run_name` says.
        folder: TensorBoard writes in its folder `tensorboard`, unless TENSORBOARD_LOGGING_DIR says.
        opening: rows of a table that is shown when the fit begins.
        stays_open: the fit's end is not the end of what is told: call `close`.

    Raises:
        ConfigurationError: a service is not installed.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        run_name: str,
        folder: Path,
        opening: Sequence[Row] = (),
        stays_open: bool = False,
    ) -> None:
        refuse_missing(names)
        self._run_name, self._opening, self._stays_open = run_name, opening, stays_open
        self._services = [_opened(name, folder) for name in names]
        self._begun: tuple[Any, Any, Any] | None = None
        self._model: Any = None
        self.rows: Callable[[int], Sequence[Row]] | None = None
        """From the number of optimiser steps to the table of a training step, where there is one."""

    @classmethod
    def beside(cls, folder: Path, names: Sequence[str]) -> "Reporters":
        """Those of a run in `folder`, which they call by its name."""
        return cls(names, run_name=folder.name, folder=folder)

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        args.run_name = args.run_name or self._run_name
        self._begun, self._model = (args, state, control), rest.get("model")
        self._tell("on_train_begin", **rest)
        if self._opening:
            self._table("examples", self._opening, 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **rest: Any) -> None:
        self._begun = (args, state, control)
        # what is no number is no figure: TRL logs None where nothing was measured
        numbers = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self._tell("on_log", logs=numbers, **rest)
        if self.rows is not None and "tokens" in numbers:
            self._table("episodes", self.rows(state.global_step), state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if not self._stays_open:
            self.close()

    def log(self, figures: Mapping[str, Any]) -> None:
        """Tell figures of the fit when it is over."""
        if self._begun is not None:
            self.on_log(*self._begun, logs=figures)

    def close(self) -> None:
        """Nothing more will come, also after an error. May be called twice."""
        if self._begun is not None:
            self._tell("on_train_end", model=self._model)
            for name, service in self._services:
                if name == "wandb" and self._leads:  # transformers' callback leaves its run open for the next fit
                    service._wandb.finish()
        self._begun = None

    @property
    def _leads(self) -> bool:
        return self._begun is not None and bool(self._begun[1].is_world_process_zero)

    def _tell(self, event: str, **rest: Any) -> None:
        for _, service in self._services:
            with redirect_stdout(sys.stderr):  # trackio prints, and standard output is for results
                getattr(service, event)(*(self._begun or ()), **rest)

    def _table(self, title: str, rows: Sequence[Row], step: int) -> None:
        if not rows or not self._leads:
            return
        for name, service in self._services:
            with redirect_stdout(sys.stderr):
                REPORTED[name](service, title, [{"step": step, **row} for row in rows], step)


def _opened(name: str, folder: Path) -> tuple[str, Any]:
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    (kind,) = get_reporting_integration_callbacks([name])
    service = kind()
    if name == "tensorboard":
        service.logging_dir = service.logging_dir or str(folder / "tensorboard")
    return name, service


# A table in each service's own way.


def _as_text(service: Any, title: str, rows: Sequence[Row], step: int) -> None:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(map(_cell, row.values())) for row in rows)]
    service.tb_writer.add_text(title, "\n".join(f"| {' | '.join(line)} |" for line in lines), step)
    service.tb_writer.flush()


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ⏎ ")


def _as_wandb_table(service: Any, title: str, rows: Sequence[Row], step: int) -> None:
    wandb = service._wandb
    table = wandb.Table(columns=list(rows[0]), data=[list(row.values()) for row in rows])
    wandb.log({title: table, "train/global_step": step})


def _as_trackio_table(service: Any, title: str, rows: Sequence[Row], step: int) -> None:
    import pandas

    trackio = service._trackio
    trackio.log({title: trackio.Table(dataframe=pandas.DataFrame(list(rows))), "train/global_step": step})


def _as_mlflow_table(service: Any, title: str, rows: Sequence[Row], step: int) -> None:
    # figures are written in the background, and a table reads the run: half a file of figures would end the training
    service._ml_flow.flush_async_logging()
    service._ml_flow.log_table({name: [row[name] for row in rows] for name in rows[0]}, f"{title}.json")


REPORTED: Mapping[str, Callable[[Any, str, Sequence[Row], int], None]] = {
    "tensorboard": _as_text,
    "trackio": _as_trackio_table,
    "wandb": _as_wandb_table,
    "mlflow": _as_mlflow_table,
}


# What the tables show.


def episode_rows(episodes: "Sequence[Episode]") -> list[Row]:
    """Some of the episodes of a step, spread over its problems: a row for each turn."""
    return [
        {
            "problem": episode.problem.id,
            "prompt": episode.problem.prompt,
            "turn": signal.kind,
            "text": call.text,
            "reward": signal.reward,
        }
        for episode in _spread(episodes)
        for call, signal in zip(episode.calls, episode.signals, strict=True)
    ]


def example_rows(examples: "Sequence[Example]") -> list[Row]:
    """Some of the examples of a fit."""
    return [
        {"problem": example.problem, "kind": example.kind, "first": example.first or "", "answer": example.answer}
        for example in _spread(examples)
    ]


def _spread(items: Sequence[Item]) -> Sequence[Item]:
    return items[:: max(1, len(items) // _SHOWN)][:_SHOWN]
