"""A critic in place of the leave-one-out baseline: it predicts, before every token or every turn, what the turn will be
paid and, with a discount between turns, what is paid after it.

It is a linear head on the policy's last hidden states, which it does not change: policy and critic share no gradient,
the saved policy stays a plain model, and the head learns with an optimiser of its own. A turn's value knows all that
came before the turn, the previous answer included. Of several processes each has the same head: they learn from the
returns of all.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from selfcorrect.training.credit.gae import SampledTokens, earned, estimated
from selfcorrect.training.credit.table import CallTable
from selfcorrect.training.ppo.batching import RowTensors
from selfcorrect.training.ppo.config import CriticConfig
from selfcorrect.training.ppo.loss import value_loss
from selfcorrect.training.processes import together

_FILE = "critic.pt"


class Critic:
    """The value head and its optimiser.

    Args:
        hidden_size: of the policy.
        config: the settings.
    """

    def __init__(self, hidden_size: int, config: CriticConfig) -> None:
        self.config = config
        self._head = torch.nn.Linear(hidden_size, 1)
        torch.nn.init.zeros_(self._head.weight)
        torch.nn.init.zeros_(self._head.bias)
        self._optimiser = torch.optim.Adam(self._head.parameters(), lr=config.learning_rate)

    def learn(self, hidden_RTH: Tensor, rows: RowTensors, table: CallTable) -> tuple[Tensor, float]:
        """Advantages (R, T) under the critic as it is, and the mean loss of then fitting it to the returns.

        `hidden_RTH` is the policy's last hidden state before each completion token.
        """
        config = self.config
        with torch.no_grad():
            values_RT = self._head(hidden_RTH).squeeze(-1)
        sampled = SampledTokens.of(rows.calls_RT, table.episodes_C)
        paid_C = earned(table.rewards_C, table.unjudged_C, table.episodes_C, across=config.turn_discount > 0).to(
            values_RT.dtype
        )
        advantages_RT, returns_RT = estimated(paid_C, values_RT, sampled, config)
        known_RT = torch.isfinite(advantages_RT) & (rows.calls_RT >= 0)
        loss = self._fit(hidden_RTH, torch.nan_to_num(returns_RT), known_RT & self._fitted(rows, sampled))
        return torch.nan_to_num(advantages_RT), loss

    def _fitted(self, rows: RowTensors, sampled: SampledTokens) -> Tensor:
        """(R, T) bool: the tokens whose values mean something: all, or the first of each turn."""
        if self.config.level == "token":
            return torch.ones_like(rows.calls_RT, dtype=torch.bool)
        return sampled.scatter(sampled.starts_N.float(), rows.calls_RT) > 0

    def _fit(self, hidden_RTH: Tensor, returns_RT: Tensor, mask_RT: Tensor) -> float:
        everywhere = sum(together(int(mask_RT.sum())))
        losses = []
        for _ in range(self.config.epochs):
            self._optimiser.zero_grad()
            values_RT = self._head(hidden_RTH).squeeze(-1)
            loss = value_loss(values_RT, returns_RT, mask_RT.float(), torch.tensor(max(1, everywhere)))
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(self._added(float(loss.detach())))
            self._optimiser.step()
        return sum(losses) / len(losses)

    def _added(self, loss: float) -> float:
        """The loss over all processes; the head gets the gradient of that."""
        parameters = list(self._head.parameters())
        parts = together((loss, [parameter.grad for parameter in parameters if parameter.grad is not None]))
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.stack([gradients[number] for _, gradients in parts]).sum(0)
        return sum(part for part, _ in parts)

    def keeper(self) -> TrainerCallback:
        """A callback that stores the critic in every checkpoint and takes it from the one a run is resumed from."""
        return _Keeper(self)

    def save(self, folder: Path) -> None:
        torch.save({"head": self._head.state_dict(), "optimiser": self._optimiser.state_dict()}, folder / _FILE)

    def load(self, folder: Path) -> None:
        saved = torch.load(folder / _FILE, weights_only=True)
        self._head.load_state_dict(saved["head"])
        self._optimiser.load_state_dict(saved["optimiser"])


class _Keeper(TrainerCallback):  # type: ignore[misc]
    def __init__(self, critic: Critic) -> None:
        self._critic = critic

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._critic.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.global_step and (folder / _FILE).exists():
            self._critic.load(folder)
