"""The one loop that fits a policy: problems in an order that a resumed run takes up, Ctrl-C, checkpoints, saving."""

import json
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from safetensors import SafetensorError, safe_open

from selfcorrect.agents.prompts import Prompts
from selfcorrect.agents.state import Message
from selfcorrect.errors import DivergenceError, TaskError
from selfcorrect.files import StepLog, replacing
from selfcorrect.tasks.problem import Problem, Task
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.player import SignalsAt
from selfcorrect.training.ppo.rollouts import Episode
from selfcorrect.training.ppo.trainer import TurnPPOTrainer
from selfcorrect.training.processes import by_first
from selfcorrect.training.reporting.services import Reporters
from selfcorrect.training.runs.best import BestCheckpoint
from selfcorrect.training.runs.callbacks import BoundedKL, FiniteGradients, StopOnInterrupt
from selfcorrect.training.runs.held_out import left_out_text
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.stored_episodes import training_rows

Item = TypeVar("Item")


def epochs(problems: Sequence[Item], *, batches: int, per_batch: int, seed: int) -> list[Item]:
    """The problems of a whole run, batch after batch: all of them shuffled, then all shuffled anew, and so on.

    The list is known from the beginning, so that a run that is resumed in a later epoch goes on in the same order;
    TRL's sampler would begin with the first epoch's order again. No batch holds a problem twice; what is left of an
    epoch that does not fill a batch is left out, as TRL does.

    Args:
        problems: at least `per_batch`; fewer are returned as they are, for the trainer to refuse.
        batches: of the whole run.
        per_batch: problems of a batch.
        seed: of the order.
    """
    if len(problems) < per_batch:
        return list(problems)
    dice = random.Random(seed)
    whole = len(problems) - len(problems) % per_batch
    order: list[Item] = []
    while len(order) < batches * per_batch:
        order.extend(dice.sample(list(problems), whole))
    return order[: batches * per_batch]


def training_problems(task: Task, config: TurnPPOConfig) -> list[Problem]:
    """As many problems of the train split as the run can use; a finite task gives what it has, and they come again."""
    wanted = config.problems_per_step * config.steps
    available = getattr(task, "available", None)
    count = wanted if available is None else min(wanted, available("train"))
    return list(task.problems("train", count, seed=config.seed))


def shown_problems(problems: Sequence[Problem], policy: Any, prompts: Prompts, progress: ProgressSink) -> list[Problem]:
    """Those of `problems` that fit into the policy's context; the others are named to `progress`.

    Raises:
        TaskError: none fits.
    """
    context: int | None = getattr(policy.model.config, "max_position_embeddings", None)
    if context is None:
        return list(problems)
    opening = [Message(role="system", content=prompts.system)] if prompts.system else []

    def fits(problem: Problem) -> bool:
        shown = Message(role="user", content=prompts.attempt.replace("{problem}", problem.prompt))
        return bool(policy.count_tokens([*opening, shown]) < context)

    kept = [problem for problem in problems if fits(problem)]
    if len(kept) < len(problems):
        ids = {problem.id for problem in kept}
        said = left_out_text([problem.id for problem in problems if problem.id not in ids])
        if not kept:
            raise TaskError(f"no problem fits into the model's context of {context} tokens: {said}")
        progress.message(said)
    return kept


class RunTrainer(TurnPPOTrainer):
    """The trainer of a run, which writes a card of its own (`model_card`): TRL's would speak of GRPO. `stored` is where
    it keeps `store_episodes` of each step; None is nowhere."""

    stored: StepLog | None = None
    measures: ClassVar[bool] = True

    def create_model_card(self, *_: Any, **__: Any) -> None: ...

    def tell_credit(self, episodes: list[Episode], advantages: list[list[float]]) -> None:
        """As the trainer does; and write some of them down."""
        super().tell_credit(episodes, advantages)
        count = self.settings.store_episodes
        if self.stored is None or not count or not self.accelerator.is_main_process:
            return
        for row in training_rows(episodes, advantages, self._tokenizer, count=count, step=self.batch_number + 1):
            self.stored.append(row)


def open_trainer(
    policy: Any,
    graph: Any,
    problems: Sequence[Problem],
    signals: SignalsAt,
    config: TurnPPOConfig,
    *,
    callbacks: Sequence[Any] = (),
    stored: Path | None = None,
    **seams: Any,
) -> TurnPPOTrainer:
    """The trainer on `problems`, epoch after epoch; `stored` is the file for `store_episodes` of each
    step, and `seams` are further arguments of `TurnPPOTrainer`."""
    order = epochs(problems, batches=config.steps, per_batch=config.problems_per_step, seed=config.seed)
    watched = [*callbacks, FiniteGradients(), BoundedKL(config)]
    # The run's folder is the one that holds that of its checkpoints.
    reporters = Reporters.beside(config.output_dir.parent, config.report_to)
    trainer = RunTrainer(
        policy, graph, order, signals, config, callbacks=watched, shuffled=True, reporters=reporters, **seams
    )
    trainer.stored = None if stored is None else StepLog(stored)
    return trainer


def keep_beginning(policy: Any, checkpoints: Path, *, resume: bool) -> None:
    """Keep the weights that a run of a given policy begins with, and give them back to the policy where it is resumed.

    Whoever resumes with the object that was trained would else anchor the rest of the run to half-trained weights, or
    put an adapter on a base that has one in it already.

    Args:
        policy: a `TransformersPolicy`, whose model is changed in place; adapters on it are taken off.
        checkpoints: the run's folder of them; the weights are in its folder `beginning`.
        resume: whether the run goes on.
    """
    kept = checkpoints / "beginning"

    def keep() -> bool:
        if resume and kept.is_dir():
            return False
        with replacing(kept) as unfinished:
            policy.model.save_pretrained(unfinished)
        return True

    if by_first(keep):
        return
    model = policy.model.unload() if hasattr(policy.model, "peft_config") else policy.model
    model.load_state_dict(type(model).from_pretrained(kept, dtype=model.dtype).state_dict())
    policy.model = model


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None. One that a crash or a full disk tore is passed over."""
    return next(filter(is_whole, sorted(folder.glob("checkpoint-[0-9]*"), key=_number, reverse=True)), None)


def resumable(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """As `last_checkpoint`; newer ones that are torn are told."""
    found = last_checkpoint(folder)
    number = -1 if found is None else _number(found)
    torn = sorted((path for path in folder.glob("checkpoint-[0-9]*") if _number(path) > number), key=_number)
    if torn:
        names = ", ".join(path.name for path in torn)
        place = "from the beginning" if found is None else f"from {found.name}"
        tell(f"{names} is torn, as a crash or a full disk leaves it: the run goes on {place}")
    return found


def _number(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def is_whole(checkpoint: Path) -> bool:
    """Whether all files of a checkpoint are there and can be read to their ends: weights, optimiser, and the trainer's
    state, which is written last."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    parts = [("trainer_state.json",), ("*.safetensors", "*.bin", *_SHARDED), ("optimizer*", *_SHARDED)]
    there = all(any(any(checkpoint.glob(pattern)) for pattern in patterns) for patterns in parts)
    return there and all(map(_is_readable, files)) and all(map(_has_its_shards, checkpoint.glob("*.index.json")))


_SHARDED = ("global_step*", "*fsdp*")
"""What DeepSpeed and FSDP write in the place of the weights' and the optimiser's files."""


def _has_its_shards(index: Path) -> bool:
    shards = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
    return all((index.parent / shard).is_file() for shard in shards)


def _is_readable(path: Path) -> bool:
    if path.suffix in (".pt", ".pth", ".bin"):
        return zipfile.is_zipfile(path)  # its list of contents stands at the end
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):  # compares the length of the file with its header
                return True
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
    except (SafetensorError, ValueError, OSError):
        return False
    return True


def fit(
    trainer: TurnPPOTrainer,
    *,
    resume_from: Path | None = None,
    saves: bool = True,
    best: BestCheckpoint | None = None,
) -> None:
    """Train to the end, from `resume_from` on if there is such a checkpoint, or until `best`, which is one of the
    trainer's callbacks, says that it is over; the trainer then has the weights that `best` gives back.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the step was finished and, unless not `saves`, a checkpoint written.
        DivergenceError: loss or gradient was not finite, or one step moved the KL past `max_kl`; tells the last good
            checkpoint.
        TrainingError: nothing could be learnt from `stop_after_idle` batches in a row; the disk is full.
    """
    config = trainer.settings
    interrupt = StopOnInterrupt(config.updates_per_step, saves=saves)
    trainer.add_callback(interrupt)
    try:
        if resume_from is None or best is None or not best.is_over:  # else it was interrupted after its end
            with interrupt.listening():
                trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    except DivergenceError as error:
        last = last_checkpoint(config.output_dir) or "none is kept"
        raise DivergenceError(f"{error} (last good checkpoint: {last})") from error
    finally:
        trainer.reporters.close()
    if interrupt.interrupted:
        raise KeyboardInterrupt
    if best is not None:
        best.give_back(trainer)
