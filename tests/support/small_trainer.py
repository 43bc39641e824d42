"""A trainer on a small policy and Countdown, with a judge that even a random policy can please."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback

from selfcorrect.agents.graph import build_graph
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN
from selfcorrect.rewards.checker import Checker, Status, Verdict
from selfcorrect.tasks.countdown import CountdownTask
from selfcorrect.training.ppo.config import TurnPPOConfig
from selfcorrect.training.ppo.objectives import Objective, StageTwo
from selfcorrect.training.ppo.rollouts import CheckerRewards
from selfcorrect.training.ppo.trainer import TurnPPOTrainer


@dataclass(frozen=True)
class LikesPlus:
    """Correct is an answer whose first token is an even number or '+'."""

    status_of_others: Status = Status.WRONG

    def check_sync(self, response: str, reference: Any) -> Verdict:
        word = (response.split() or [""])[0]
        good = word == "+" or (word.isdigit() and int(word) % 2 == 0)
        return Verdict(Status.CORRECT if good else self.status_of_others)

    async def check(self, response: str, reference: Any) -> Verdict:
        return self.check_sync(response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        return None


class Easy(CountdownTask):
    """Countdown for `LikesPlus`: there is something to learn from."""

    @property
    def checker(self) -> Checker:
        return LikesPlus()


class Log(TrainerCallback):  # type: ignore[misc]
    """The figures of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs and "tokens" in logs:
            self.steps.append(dict(logs))


def trainer_of(
    policy: TransformersPolicy,
    out: Path,
    *,
    objective: Objective | None = None,
    checker: Any = None,
    peft_config: Any = None,
    reference: Any = None,
    shuffled: bool = False,
    **settings: Any,
) -> tuple[TurnPPOTrainer, Log]:
    log = Log()
    chosen = {"output_dir": out, "steps": 2, "problems_per_step": 4, "episodes_per_problem": 4, "learning_rate": 1e-3}
    judged = CheckerRewards(objective or StageTwo(alpha=1.0, beta1=0.01), checker or LikesPlus())
    trainer = TurnPPOTrainer(
        policy,
        build_graph(policy, prompts=COUNTDOWN),
        CountdownTask(3).problems("train", 32),
        lambda batch: judged,
        TurnPPOConfig(**(chosen | settings)),
        callbacks=[log],
        peft_config=peft_config,
        reference=reference,
        shuffled=shuffled,
    )
    return trainer, log


def trainer_on(folder: Path, out: Path, **options: Any) -> tuple[TurnPPOTrainer, Log]:
    """`trainer_of` the policy in `folder`."""
    return trainer_of(TransformersPolicy.from_pretrained(str(folder), max_new_tokens=5), out, **options)


def weights(trainer: TurnPPOTrainer) -> dict[str, Tensor]:
    """A copy of the policy's weights as they are."""
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
