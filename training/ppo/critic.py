"""A critic in place of the leave-one-out baseline: it predicts, before every token, the reward of the token's turn.

It is a linear head on the policy's last hidden states, which it does not change: policy and critic share no gradient,
the saved policy stays a plain model, and the head learns with an optimiser of its own. A turn's value knows all that
came before the turn, the previous answer included.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from selfcorrect.training.ppo.advantages import gae_within_turns
from selfcorrect.training.ppo.batching import RowTensors
from selfcorrect.training.ppo.config import CriticConfig
from selfcorrect.training.ppo.loss import value_loss

_FILE = "critic.pt"


class Critic:
    """The value head and its optimiser.

    Args:
        hidden_size: of the policy.
        config: the settings.
    """

    def __init__(self, hidden_size: int, config: CriticConfig) -> None:
        self._config = config
        self._head = torch.nn.Linear(hidden_size, 1)
        torch.nn.init.zeros_(self._head.weight)
        torch.nn.init.zeros_(self._head.bias)
        self._optimiser = torch.optim.Adam(self._head.parameters(), lr=config.learning_rate)

    def learn(self, model: Any, rows: RowTensors, rewards_C: Tensor) -> tuple[Tensor, float]:
        """Advantages (R, T) under the critic as it is, and the mean loss of then fitting it to the returns."""
        hidden_RTH = _hidden_before_each_token(model, rows)
        rewards_RT = _on_last_tokens(rewards_C, rows.calls_RT)
        with torch.no_grad():
            values_RT = self._head(hidden_RTH).squeeze(-1)
        advantages_RT, returns_RT = gae_within_turns(
            rewards_RT,
            values_RT,
            rows.calls_RT - _first_calls(rows.calls_RT),
            discount=self._config.discount,
            trace=self._config.trace,
        )
        judged_RT = rows.spread(torch.isfinite(rewards_C).float())
        return advantages_RT, self._fit(hidden_RTH, returns_RT, judged_RT)

    def _fit(self, hidden_RTH: Tensor, returns_RT: Tensor, mask_RT: Tensor) -> float:
        losses = []
        for _ in range(self._config.epochs):
            self._optimiser.zero_grad()
            loss = value_loss(self._head(hidden_RTH).squeeze(-1), returns_RT, mask_RT, mask_RT.sum().clamp(min=1))
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            losses.append(float(loss.detach()))
        return sum(losses) / len(losses)

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
        self._critic.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.global_step and (folder / _FILE).exists():
            self._critic.load(folder)


def _hidden_before_each_token(model: Any, rows: RowTensors) -> Tensor:
    """(R, T, H): the last hidden state at the position before each completion token, in float32 on the CPU."""
    ids = torch.cat([rows.prompt_ids_RP, rows.completion_ids_RT], dim=1)
    mask = torch.cat([rows.prompt_mask_RP, rows.completion_mask_RT], dim=1)
    device = next(model.parameters()).device
    with torch.no_grad():
        output = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), output_hidden_states=True, use_cache=False
        )
    first = rows.prompt_ids_RP.shape[1] - 1
    hidden: Tensor = output.hidden_states[-1][:, first:-1].float().cpu()
    return hidden


def _on_last_tokens(rewards_C: Tensor, calls_RT: Tensor) -> Tensor:
    """(R, T): each call's reward on the last token it sampled, 0 elsewhere."""
    following_RT = torch.cat([calls_RT[:, 1:], torch.full_like(calls_RT[:, :1], -1)], dim=1)
    last_RT = (calls_RT >= 0) & (calls_RT != following_RT)
    rewards_RT = rewards_C[calls_RT.clamp(min=0)]
    return torch.where(last_RT, rewards_RT, torch.zeros_like(rewards_RT))


def _first_calls(calls_RT: Tensor) -> Tensor:
    """(R, T): the row's smallest call index on sampled tokens, 0 on context, so that turns count from 0 in every
    row."""
    first_R1 = torch.where(calls_RT >= 0, calls_RT, calls_RT.max() + 1).min(dim=1, keepdim=True).values
    return torch.where(calls_RT >= 0, first_R1, torch.zeros_like(calls_RT))
