"""Quiet-STaR from beginning to end: evaluate, train, evaluate again, write everything down."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from selfcorrect.agents.policies.whole_models import whole_location
from selfcorrect.agents.quiet.model import QuietModel
from selfcorrect.agents.quiet.thinking import open_model
from selfcorrect.devices import choose_device
from selfcorrect.errors import PolicyError
from selfcorrect.files import finite, write_whole
from selfcorrect.training.quiet_star.chain_model import ChainRecipe, save_chain_model
from selfcorrect.training.quiet_star.evaluation import JudgedToken, judge, report_page, summarise
from selfcorrect.training.quiet_star.learners import Learner, PlainLearner, ThinkingLearner
from selfcorrect.training.quiet_star.loop import train_steps
from selfcorrect.training.quiet_star.settings import ARM, CHAINS, QuietRun, QuietSettings
from selfcorrect.training.quiet_star.texts import ASIDE_BEGINS, ASIDE_ENDS, ChainTexts, Text, Texts, read_file
from selfcorrect.training.runs.holding import opened
from selfcorrect.training.runs.model_card import quiet_card
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.runs.run_directory import RunResult

_TEXTS_IN_REPORT = 60
_ON_CARD = ("all_nll", "all_nll_talk", "answer_accuracy", "answer_accuracy_talk")


def train_quiet_star(
    settings: QuietSettings, *, out: Path, progress: ProgressSink | None = None, resume: bool = False
) -> RunResult:
    """Teach a language model to think before its tokens (Zelikman et al. 2024, arXiv 2403.09629).

    Args:
        settings: everything that decides the run.
        out: the run's folder; see `QuietRun`.
        progress: where to show what happens.
        resume: go on with an interrupted run in `out`; it continues as if it had not been interrupted.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the run was saved and can be resumed.
        DivergenceError: loss or gradient was not finite.
        PolicyError, TaskError, TrainingError, ConfigurationError: before any training, if something is unusable.
    """
    with opened(QuietRun, ARM, settings, out=out, progress=progress, resume=resume) as (run, sink):
        return _play_through(run, settings, sink)


def _play_through(run: QuietRun, settings: QuietSettings, progress: ProgressSink) -> RunResult:
    device = choose_device(settings.device)
    lm, tokenizer = open_model(_model_location(run, settings, progress))
    lm.to(device)
    texts = open_texts(settings, tokenizer)
    torch.manual_seed(settings.seed)  # the mixing head's first weights
    learner = open_learner(settings, lm, tokenizer)
    held_out = texts.held_out(settings.evaluation_texts)
    _refuse_long_texts(lm.config, settings, max(len(text.ids) for text in held_out))
    before_path = run.checkpoints_path / "before.json"
    if not before_path.exists():
        progress.message(f"evaluating the base model on {len(held_out)} held-out texts")
        write_whole(before_path, json.dumps(finite(summarise(judge(learner, held_out)))))
    before = json.loads(before_path.read_text(encoding="utf-8"))
    train_steps(learner, texts, settings, run, progress)
    progress.message("evaluating the trained model")
    tokens = judge(learner, held_out)
    after = summarise(tokens)
    learner.save(run.model_path)
    run.write_final(before, after)
    known = [name for name in _ON_CARD if None not in (before.get(name), after.get(name))]
    figures = {name: (f"{before[name]:.4f}", f"{after[name]:.4f}") for name in known}
    card = quiet_card(settings, settings.model_name, figures, folder=run.model_path)
    write_whole(run.model_path / "README.md", card)
    run.write_tokens(_text_records(held_out[:_TEXTS_IN_REPORT], tokens, tokenizer))
    write_whole(run.report_path, report_page(settings, run.read_metrics(), run.read_final(), run.read_tokens()))
    return RunResult(run.path, before, after)


def _model_location(run: QuietRun, settings: QuietSettings, progress: ProgressSink) -> Path | str:
    """Where the model lies that training begins with; that of the chains is made now."""
    name = settings.model_name
    if name != CHAINS:
        location = Path(whole_location(name))
        return location if location.is_dir() or location.is_absolute() else name
    if not (run.base_path / "recipe.json").exists():
        recipe = ChainRecipe(steps=settings.pretraining_steps)
        progress.message(f"pre-training a small model on chains of arithmetic, {recipe.steps} steps")
        save_chain_model(run.base_path, recipe, progress.message)
    return run.base_path


def open_texts(settings: QuietSettings, tokenizer: Any) -> Texts:
    """The texts that the settings name. Raises a TaskError if they are unusable."""
    if settings.file is None:
        return ChainTexts(tokenizer, settings.seed)
    return read_file(
        settings.file,
        tokenizer,
        span=settings.span,
        ahead=settings.thought.ahead,
        held_out=settings.held_out,
        seed=settings.seed,
    )


def open_learner(settings: QuietSettings, lm: Any, tokenizer: Any) -> Learner:
    """What the settings train. On chains, thoughts begin and end as the asides of pre-training do."""
    thought = settings.thought
    if thought.kind == "none":
        return PlainLearner(lm, tokenizer)
    if thought.kind == "thought" and thought.like is None and settings.text == CHAINS:
        thought = thought.model_copy(update={"like": (ASIDE_BEGINS, ASIDE_ENDS), "never": (ASIDE_ENDS,)})
    return ThinkingLearner(QuietModel.wrap(lm, tokenizer, thought.thinking), thought, settings.loss)


def _refuse_long_texts(config: Any, settings: QuietSettings, longest: int) -> None:
    """Before training, not in the middle of it."""
    context: int | None = getattr(config, "max_position_embeddings", None)
    thought = settings.thought
    extra = 0 if thought.kind == "none" else thought.tokens + 2 + thought.ahead - 1
    if context is not None and longest - 1 + extra > context:
        raise PolicyError(
            f"texts of {longest} tokens with thoughts of {thought.tokens}, their start and end tokens and "
            f"{thought.ahead} tokens ahead take {longest - 1 + extra} positions, but the model has {context}: lower "
            "span, thought.tokens or thought.ahead"
        )


def _text_records(texts: Sequence[Text], tokens: Sequence[JudgedToken], tokenizer: Any) -> list[dict[str, Any]]:
    """The rows of tokens.jsonl: one for each text, with all its tokens. Nothing is known of the first one."""
    rows: list[list[dict[str, Any]]] = [[{"token": tokenizer.decode(text.ids[:1])}] for text in texts]
    for token in tokens:
        if token.text < len(rows):
            rows[token.text].append(
                {
                    "token": tokenizer.decode([token.id]),
                    "nll": token.nll,
                    "talk": token.talk,
                    "weight": token.weight,
                    "thought": tokenizer.decode(list(token.thought)),
                    "answer": token.answer,
                }
            )
    return [{"text": number, "tokens": row} for number, row in enumerate(rows)]
