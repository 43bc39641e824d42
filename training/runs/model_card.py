"""The card of a trained model, README.md beside its weights: what it is, what it was trained for and how, what that
changed, and how to use it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfcorrect.errors import ConfigurationError
from selfcorrect.training.arms.registry import ARMS

if TYPE_CHECKING:
    from selfcorrect.setting_groups import Settings
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
        "Limits": limits(final),
    }
    question = settings.task.example_of_size or "..."
    uses = [f"selfcorrect solve '{question}' --model {folder}", f"selfcorrect eval --model {folder} --task TASK"]
    return _card(settings.policy.model, f"selfcorrect, {arm or 'own arm'}", facts, _figures(final), uses)


def own_run_card(final: Mapping[str, Any] | None, *, adapted: bool) -> str:
    """The card of what `train` made in somebody's own graph, or `adapt` from a model's own votes."""
    how = "per-turn PPO in a LangGraph graph of its maker's own (`selfcorrect.train`)"
    if adapted:
        how = "`selfcorrect adapt`: its own votes on problems without answers (TTRL, arXiv 2504.16084)"
    before, after = ((final or {}).get(name) or {} for name in ("before", "after"))
    rows = [
        f"| {name.removeprefix('reward/')} | {before[name]:.3f} | {after[name]:.3f} |"
        for name in after
        if name.startswith("reward/") and name in before
    ]
    facts = {"Trained by": how, "Cost": _cost(final), "Limits": limits(final)}
    return _card("", f"selfcorrect, {'adapted' if adapted else 'own graph'}", facts, rows, [])


def adapter_card(card: str, base: str, told: str) -> str:
    """The card of a run, of its adapter alone, which goes on `base`; `told` is said at its end."""
    head, _, body = card.partition("\n---\n")
    kept = [line for line in head.splitlines() if not line.startswith(("library_name:", "base_model:"))]
    named = [f"base_model: {base}"] if _HUB_ID.fullmatch(base) and not Path(base).exists() else []
    body = re.sub(r"- \*\*Base:\*\* .*", lambda _: f"- **Base:** {base}", body)
    return "\n".join([*kept, "library_name: peft", *named, "---", body.rstrip(), "", told])


def limits(final: Mapping[str, Any] | None) -> str:
    """What a run's figures do not say, and whether they are better at all."""
    before, after = ((final or {}).get(name) or {} for name in ("before", "after"))
    if not after:
        return "Nothing was measured on held-out problems."
    count = f"{int(after['n'])} held-out problems" if "n" in after else "held-out problems"
    told = f"One run, measured greedily on {count}; other seeds, tasks and ways of sampling were not tried."
    headline = [name for name in after if name.startswith(("accuracy_t", "reward/")) and name in before]
    better = any(after[name] > before[name] for name in headline)
    return told if better or not headline else f"{told} On them it is not better than before."


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
    lines += [*told, *table, *(["", "```sh", *uses, "```"] if uses else []), ""]
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
