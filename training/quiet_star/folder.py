"""The folder of a Quiet-STaR run.

config.yaml      the settings, complete
arm.txt          "quiet-star"
metrics.jsonl    one line a step: nll and nll_base (nats per token with and without thoughts, sampled), gain, ...
metrics.json     {"before": ..., "after": ...}: held-out texts, greedy thoughts; see `evaluation.summarise`
tokens.jsonl     some held-out texts, token by token, with gains, weights and thoughts
base/            the model that training began with, if the run made it
model/           the trained model; `QuietPolicy.from_pretrained` opens it, AutoModelForCausalLM without its thoughts
checkpoints/     what `--resume` continues from
report.html      all of it in one file
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcorrect.files import json_line, write_whole
from selfcorrect.settings import settled
from selfcorrect.training.quiet_star.settings import QuietSettings
from selfcorrect.training.runs.run_directory import RunDirectory

ARM = "quiet-star"


@dataclass(frozen=True)
class QuietRun(RunDirectory):
    """The files of one run."""

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
