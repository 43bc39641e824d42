"""The card of a trained model, README.md beside its weights: what it is, what it was trained for and how, what that
changed, and how to use it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.registry import ARMS

if TYPE_CHECKING:
    from selfcorrect.settings import Settings
    from selfcorrect.training.settings import RunSettings

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def run_card(settings: "RunSettings", final: Mapping[str, Any] | None, *, arm: str | None, folder: Path) -> str:
    """The card of a run of correction.

    Args:
        settings: of the run.
        final: the content of its metrics.json, or None before there is one.
        arm: how it was trained, as on the command line.
        folder: the model's own.
    """
    graph = settings.graph
    loop = graph.build or f"critique {graph.critique!r}, revisions: {graph.revisions}"
    facts = {
        "Base": settings.policy.model,
        "Task": settings.task.title,
        "Trained by": _arm_text(arm),
        "Loop": loop,
        "Rewards": f"credit {settings.credit.kind!r}, baseline {settings.optimiser.baseline!r}" if _pays(arm) else "",
        "Cost": _cost(final),
    }
    question = settings.task.example or "..."
    uses = [f"selfcorrect solve '{question}' --model {folder}", f"selfcorrect eval --model {folder} --task TASK"]
    return _card(settings.policy.model, f"selfcorrect, {arm or 'own arm'}", facts, _figures(final), uses)


def quiet_card(settings: "Settings", base: str, lines: Mapping[str, tuple[str, str]], *, folder: Path) -> str:
    """The card of a model that thinks before its tokens; `lines` are its figures, before and after."""
    facts = {"Base": base, "Text": str(getattr(settings, "text", "")), "Trained by": "quiet-star (Quiet-STaR)"}
    rows = [f"| {label} | {before} | {after} |" for label, (before, after) in lines.items()]
    uses = [f"selfcorrect solve '...' --model {folder}   # thinks; transformers alone loads it without its thoughts"]
    return _card(base, "selfcorrect, quiet-star", facts, rows, uses)


def _card(base: str, title: str, facts: Mapping[str, str], rows: list[str], uses: list[str]) -> str:
    head = ["library_name: transformers", "pipeline_tag: text-generation", "tags: [selfcorrect]"]
    if _HUB_ID.fullmatch(base) and not Path(base).exists():
        head.append(f"base_model: {base}")
    told = [f"- **{name}:** {text}" for name, text in facts.items() if text]
    table = ["", "| held-out, greedy | before | after |", "|---|---|---|", *rows] if rows else []
    lines = ["---", *head, "---", f"# {title}", "", "A language model that was taught to correct its own answers.", ""]
    if "quiet-star" in title:
        lines[-2] = "A language model that was taught to think before its tokens."
    lines += [*told, *table, "", "```sh", *uses, "```", ""]
    lines += ["All settings are in config.yaml of the run's folder, all figures in metrics.json and report.html.", ""]
    return "\n".join(lines)


def _arm_text(arm: str | None) -> str:
    """The arm, and what it is in a few words where it is one of ours."""
    name = (arm or "").split(" --")[0]
    try:
        return f"{arm} ({ARMS.find(name).says})" if name else "an arm of its own"
    except ConfigurationError:  # a user's own that is not there any more
        return str(arm)


def _pays(arm: str | None) -> bool:
    """Whether the arm is one of reinforcement learning, which credit and baseline are of."""
    name = (arm or "").split(" --")[0]
    command = ARMS[name].command if name in ARMS else None
    return command is not None and "credit" in command.reads


def _cost(final: Mapping[str, Any] | None) -> str:
    budget = (final or {}).get("budget")
    if not budget:
        return ""
    return f"{budget['generated_tokens']:,} generated tokens, {budget['optimiser_steps']:,} optimiser steps"


def _figures(final: Mapping[str, Any] | None) -> list[str]:
    """Rows of a table: what the evaluations before and after say."""
    if final is None:
        return []
    from selfcorrect.training.reporting.rows import result_rows

    rows = result_rows(final["before"], final["after"])
    return [f"| {row.label} | {row.values[0]} | {row.values[1]} |" for row in rows]
