"""The settings of a Quiet-STaR run, and its folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from selfcorrect.agents.quiet.thinking import Thinking
from selfcorrect.files import json_line, write_whole
from selfcorrect.setting_groups import Count, NonNegative, Positive, Seed, Settings, Share
from selfcorrect.settings import settled
from selfcorrect.training.runs.run_directory import RunDirectory

CHAINS = "chains"
"""Stands for the procedural chains of arithmetic, as text, and for the small model that was pre-trained on them, as
model."""


class ThoughtSettings(Settings):
    """How the model thinks; see `selfcorrect.agents.quiet.thinking.Thinking`."""

    kind: Literal["thought", "pause", "none"] = "thought"
    """"pause" reads pause tokens in place of thoughts; "none" goes on with plain training: the two baselines."""
    tokens: PositiveInt = 8
    """Of one thought, without its start and end token."""
    per_position: int = Field(default=2, ge=1)
    """Thoughts that are drawn at each position and compared, K. Pauses are all alike: 1 is enough for them."""
    ahead: PositiveInt = 4
    """Tokens of the text that a thought is judged by, n_true."""
    like: tuple[str, ...] | None = Field(default=None, strict=False)
    """Texts whose embeddings the start and end token begin as; None takes a dash for both."""
    never: tuple[str, ...] = Field(default=(), strict=False)
    """Tokens that thoughts do not hold, besides their start and end and the end of text."""
    gradient_weight: Positive = 1.0
    """How much faster the start and end token's embeddings learn. The paper's 100 goes with its learning rate of
    1e-6."""
    initial_weight: Share = 0.1
    """Of a thought in the mixture, before training."""

    @model_validator(mode="after")
    def _enough_thoughts(self) -> Self:
        if self.kind == "thought" and self.per_position < 2:
            raise ValueError(
                "per_position must be 2 or more: a thought's reward is compared with the mean over the thoughts of its "
                "position"
            )
        return self

    @property
    def thinking(self) -> Thinking:
        """As the model takes it."""
        kind: Literal["thought", "pause"] = "thought" if self.kind == "thought" else "pause"
        return Thinking(self.tokens, kind, None, self.like, self.never, self.gradient_weight, self.initial_weight)


class LossSettings(Settings):
    """What is learnt from thoughts."""

    policy_weight: NonNegative = 3.0
    """Of the REINFORCE term; 0 trains everything but what is thought."""
    positive_part: bool = True
    """Pay only the thoughts that are better than the mean of their position, as the paper does."""
    straight_through: bool = False
    """Let gradients reach what is thought through the thoughts' embeddings too."""


class StepSettings(Settings):
    """One optimiser step."""

    learning_rate: Positive = 2e-4
    """Of AdamW. Pre-trained language models want 1e-6, as in the paper, or 1e-5."""
    head_learning_rate: Positive = 3e-3
    """Of the mixing head, which begins from nothing and must learn where thoughts help before it has given up on all
    of them."""
    warm_up: Count = 20
    """Steps in which it rises to that."""
    weight_decay: NonNegative = 0.001
    """Of AdamW."""
    texts: PositiveInt = 16
    """Texts per step."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to it."""


class QuietSettings(Settings):
    """Everything that decides a Quiet-STaR run. Written to `config.yaml` of its folder."""

    text: str = Field(default=CHAINS, min_length=1)
    """"chains", or the path of a text file."""
    model: str | None = Field(default=None, min_length=1)
    """"chains" (pre-trained when the run begins), "embedded", a folder, or a Hugging Face id; None suits the text."""
    device: str = "cpu"
    """"cpu", "cuda", "mps", ..., or "auto", which is the accelerator where there is one."""
    dtype: Literal["auto", "float32"] = "auto"
    """What is computed in: thoughts are drawn and learnt from in float32, and in nothing else."""
    span: PositiveInt = 64
    """Tokens of one text: files are cut into spans of this length."""
    held_out: Share = 0.1
    """The part of a file's spans that is kept for evaluation, at its end."""
    thought: ThoughtSettings = ThoughtSettings()
    loss: LossSettings = LossSettings()
    optimiser: StepSettings = StepSettings()
    steps: PositiveInt = 300
    """Updates of the weights."""
    evaluation_texts: PositiveInt = 500
    """Held-out texts that the model is measured on, before and after."""
    pretraining_steps: PositiveInt = 1500
    """Of the model "chains"."""
    seed: Seed = 0
    """Of everything random."""
    save_every: PositiveInt = 50
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _tokens_ahead_are_there(self) -> Self:
        if self.text != CHAINS and self.thought.ahead >= self.span:
            raise ValueError(
                f"thought.ahead = {self.thought.ahead} looks beyond every span of {self.span} tokens: lower it or "
                "raise span"
            )
        return self

    @property
    def model_name(self) -> str:
        """The model that is trained."""
        if self.model is not None:
            return self.model
        return CHAINS if self.text == CHAINS else "embedded"

    @property
    def file(self) -> Path | None:
        """The text file, or None for chains."""
        return None if self.text == CHAINS else Path(self.text)


# The folder.

ARM = "quiet-star"


@dataclass(frozen=True)
class QuietRun(RunDirectory):
    """The files of one run:

    config.yaml      the settings, complete
    arm.txt          "quiet-star"
    metrics.jsonl    one line a step: nll and nll_base (nats per token with and without thoughts, sampled), gain, ...
    metrics.json     {"before": ..., "after": ...}: held-out texts, greedy thoughts; see `evaluation.summarise`
    tokens.jsonl     some held-out texts, token by token, with gains, weights and thoughts
    base/            the model that training began with, if the run made it
    model/           the trained model; `QuietPolicy.from_pretrained` opens it, AutoModelForCausalLM without thoughts
    checkpoints/     what `--resume` continues from
    report.html      all of it in one file
    """

    @property
    def tokens_path(self) -> Path:
        return self.path / "tokens.jsonl"

    @property
    def base_path(self) -> Path:
        return self.path / "base"

    def write_tokens(self, rows: Sequence[Mapping[str, Any]]) -> None:
        write_whole(self.tokens_path, "".join(map(json_line, rows)))

    def read_tokens(self) -> list[dict[str, Any]]:
        """The rows of tokens.jsonl; [] before it was written."""
        if not self.tokens_path.exists():
            return []
        return [json.loads(line) for line in self.tokens_path.read_text(encoding="utf-8").splitlines()]


def saved_settings(out: Path) -> QuietSettings:
    """The settings of the run in `out`; raises as `RunDirectory.settings_in` does."""
    return QuietRun.settings_in(out, QuietSettings, arm=ARM)


def quiet_settings(
    config: Path | None, resume: Path | None, chosen: Mapping[str, Any], overrides: Sequence[str]
) -> QuietSettings:
    """The settings of a run.

    Args:
        config: a YAML or TOML file, over the defaults.
        resume: the folder of a run whose own settings are taken instead.
        chosen: dotted names and values, over those; None is not chosen.
        overrides: texts such as "thought.tokens=4", over those.

    Raises:
        ConfigurationError: a file or setting is unusable.
        TrainingError: there is no run to resume.
    """
    base = QuietSettings() if resume is None else saved_settings(resume)
    return settled(base, config=config, chosen=chosen, overrides=overrides)
