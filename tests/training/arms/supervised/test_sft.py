"""Supervised warm-up on gold solutions: what is learnt, where it stands, and what is refused."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learnt_examples import examples_of, share_known
from small_models import CHAT_TEMPLATE, CHAT_WORDS, llama, word_tokenizer

from selfcorrect.agents.policies.rendering import choose_template
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import PromptSettings
from selfcorrect.agents.state import Message, answers
from selfcorrect.errors import ConfigurationError, TaskError, TrainingError
from selfcorrect.tasks.problem import Problem, Split
from selfcorrect.training.arms.sft import _Attempts, _Pairs, sft
from selfcorrect.training.arms.supervised import run as supervised_run
from selfcorrect.training.arms.supervised.sampling import sampled_episodes
from selfcorrect.training.arms.supervised.writing import AnswerWriter
from selfcorrect.training.runs.opening import open_graph
from selfcorrect.training.runs.run_directory import RunDirectory
from selfcorrect.training.settings import (
    EvaluationSettings,
    GraphSettings,
    LoraSettings,
    PolicySettings,
    RunSettings,
    SftSettings,
)

COUNT = 8


def same_as(response: str, reference: str) -> bool:
    return response == reference


class ByHeart:
    """Eight sums that a policy can only know by heart; what is learnt is asked again."""

    name = "by heart"
    checker = staticmethod(same_as)
    prompts = "short"

    def __init__(self, without_gold: int = 0) -> None:
        golds = [f"{n} + {n + 1} = {2 * n + 1}" for n in range(1, COUNT + 1)]
        self.known = [
            Problem(id=f"p{n}", prompt=f"{n} get :", reference=gold, checker="same", gold=gold)
            for n, gold in enumerate(golds, 1)
        ]
        for n in range(without_gold):
            self.known[n] = self.known[n].model_copy(update={"gold": None})

    def available(self, split: Split) -> int:
        return COUNT

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        return self.known[:count]


def settings_for(folder: Path, **changes: Any) -> RunSettings:
    limit = changes.pop("max_new_tokens", 12)
    graph = changes.pop("graph", GraphSettings())
    lora = changes.pop("lora", None)
    return RunSettings(
        policy=PolicySettings(model=str(folder), max_new_tokens=limit, lora=lora),
        graph=graph,
        sft=SftSettings(**({"steps": 3, "batch_size": COUNT, "learning_rate": 1e-2} | changes)),
        evaluation=EvaluationSettings(problems=COUNT),
    )


def row_of(out: Path) -> dict[str, Any]:
    (row,) = RunDirectory(out).read_metrics()
    return dict(row)


@pytest.mark.slow
def test_a_policy_that_knows_nothing_learns_the_solutions_as_first_answers(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    result = sft(settings_for(tiny_model_folder, steps=150), out=tmp_path / "run", task=ByHeart())
    row = row_of(tmp_path / "run")
    assert result.before["accuracy_t1"] == 0.0 and result.after["accuracy_t1"] >= 0.9
    assert row["sft_loss"] < row["sft_loss_first"] / 4
    assert (row["examples/gold"], row["episodes"], row["tokens"], row["optimiser_steps"]) == (COUNT, 0, 0, 150)
    assert (tmp_path / "run/report.html").exists() and (tmp_path / "run/model/config.json").exists()


@pytest.mark.slow
def test_a_policy_learns_the_solutions_after_its_own_wrong_answers(tiny_model_folder: Path, tmp_path: Path) -> None:
    out, gold_of = tmp_path / "run", {problem.id: problem.gold for problem in ByHeart().known}
    sft(settings_for(tiny_model_folder, form="pairs", steps=150, samples_per_problem=2), out=out, task=ByHeart())
    row, examples = row_of(out), examples_of(out)
    assert row["episodes"] == row["examples/incorrect_to_gold"] == len(examples) == 2 * COUNT
    assert all(example.answer == gold_of[example.problem] != example.first for example in examples)
    before, after = (share_known(folder, examples) for folder in (tiny_model_folder, out / "model"))
    assert before == 0.0 and after >= 0.9 and row["sft_loss"] < row["sft_loss_first"] / 4


@pytest.mark.slow
def test_after_a_warm_up_on_attempts_pairs_raise_the_accuracy_of_second_answers(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    """Alone they do not on a model whose first answers are noise: what it learns to follow is gone after training."""
    warm = sft(settings_for(tiny_model_folder, steps=60), out=tmp_path / "warm", task=ByHeart())
    folder, pairs = tmp_path / "warm" / "model", {"form": "pairs", "samples_per_problem": 16, "batch_size": 16}
    done = sft(settings_for(folder, steps=200, **pairs), out=tmp_path / "run", task=ByHeart())
    assert warm.after["accuracy_t2"] == done.before["accuracy_t2"] < 0.2 and done.after["accuracy_t2"] > 0.7


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_solutions_stand_where_the_loop_has_its_answers(template: Any) -> None:
    words = [*CHAT_WORDS, "solve", "sums"]
    tokenizer = word_tokenizer(words, eos="<|im_end|>" if template == "chat" else "<eos>")
    tokenizer.chat_template = CHAT_TEMPLATE if template == "chat" else None
    policy = TransformersPolicy(llama(len(tokenizer)), tokenizer, max_new_tokens=12)
    shots = [{"problem": "1 get 1", "answer": "1 = 1"}]
    settings = RunSettings(
        policy=PolicySettings(max_new_tokens=12),
        prompts=PromptSettings.model_validate(
            {"name": "short", "system": "solve sums", "attempt": "solve {problem}", "examples": shots}
        ),
        sft=SftSettings(form="pairs"),
    )
    task = ByHeart()
    graph = open_graph(settings, policy, task.checker)  # type: ignore[arg-type]
    judged = _judging(task)
    played = sampled_episodes(graph, task.known, judged.checker, temperature=1.0, seed=3)
    attempts = _Attempts(settings, policy, judged)(task.known, 3).examples
    pairs = _Pairs(settings, policy, judged)(task.known, 3).examples
    assert len(attempts) == len(pairs) == COUNT
    for state, attempt, pair in zip(played, attempts, pairs, strict=True):
        first, second = (turn["generation"] for turn in answers(state))
        assert list(attempt.context_ids) == first["prompt_ids"]
        assert list(pair.context_ids) == second["prompt_ids"] and pair.first == first["text"]
        for example in (attempt, pair):
            assert tokenizer.decode(example.answer_ids[:-1]) == example.answer
            assert example.answer_ids[-1] == tokenizer.eos_token_id


def _judging(task: ByHeart) -> Any:
    """The task as a run opens it: its function as a checker."""
    from selfcorrect.tasks.registry import GivenTask

    return GivenTask.of(task).open()  # type: ignore[arg-type]


def test_a_solution_ends_with_the_token_that_ends_a_turn_of_the_template() -> None:
    tokenizer = word_tokenizer(CHAT_WORDS)
    tokenizer.chat_template = CHAT_TEMPLATE
    model = llama(len(tokenizer))
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    problem, asked = ByHeart().known[0], [Message(role="user", content="1 get :")]

    def last_id() -> int:
        policy = TransformersPolicy(model, tokenizer)
        return (
            AnswerWriter(policy, choose_template(tokenizer, "auto"), "again :")
            .gold(problem, [5], asked, None)
            .answer_ids[-1]
        )

    assert last_id() == tokenizer.eos_token_id  # the policy does not stop at <|im_end|>
    assert model.generation_config is not None
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_turn]
    assert last_id() == end_of_turn


def test_right_and_unjudged_answers_are_followed_by_nothing(tiny_model_folder: Path) -> None:
    settings = settings_for(tiny_model_folder, form="pairs")
    policy = TransformersPolicy.from_pretrained(tiny_model_folder, max_new_tokens=12)

    class Judged(ByHeart):
        @staticmethod
        def checker(response: str, reference: str) -> bool | None:
            return {"1": True, "2": None}.get(reference[0], False)

    found = _Pairs(settings, policy, _judging(Judged()))(Judged().known, 0)
    assert {example.problem for example in found.examples} == {f"p{n}" for n in range(3, COUNT + 1)}
    assert found.left_out == {"already_right": 1, "unjudged": 1, "without_gold": 0}


def test_problems_without_a_solution_are_refused_with_their_number_before_anything_is_made(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(TaskError, match=r"2 of the 8 training problems have none \(the first is p1\).*leave_out"):
        sft(settings_for(tiny_model_folder), out=out, task=ByHeart(without_gold=2))
    all_lack = settings_for(tiny_model_folder, without_gold="leave_out")
    with pytest.raises(TaskError, match=r"8 of the 8 training problems have none.*sets Problem\.gold$"):
        sft(all_lack, out=out, task=ByHeart(without_gold=COUNT))
    assert not out.exists()


@pytest.mark.parametrize("form", ["attempt", "pairs"])
def test_problems_without_a_solution_can_be_left_out_and_are_counted(
    form: str, tiny_model_folder: Path, tmp_path: Path
) -> None:
    settings = settings_for(tiny_model_folder, form=form, without_gold="leave_out")
    sft(settings, out=tmp_path / "run", task=ByHeart(without_gold=2))
    row = row_of(tmp_path / "run")
    assert (row["left_out/without_gold"], row["examples"]) == (2, COUNT - 2)


def test_solutions_that_the_policy_could_not_finish_are_left_out(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"8 problems gave no gold solution that fits \(8 too long\).*max_new_tok"):
        sft(settings_for(tiny_model_folder, max_new_tokens=5), out=tmp_path / "run", task=ByHeart())


def test_words_that_the_model_lacks_are_told_with_their_problem(tiny_model_folder: Path, tmp_path: Path) -> None:
    task = ByHeart()
    task.known[1] = task.known[1].model_copy(update={"gold": "abracadabra"})
    with pytest.raises(TaskError, match=r"solution of p2 .*'abracadabra'"):
        sft(settings_for(tiny_model_folder), out=tmp_path / "run", task=task)


def test_what_has_no_effect_is_refused(tiny_model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples nothing: leave samples_per_problem and temperature away"):
        SftSettings(samples_per_problem=4, temperature=0.5)
    with pytest.raises(ValueError, match="set problems instead"):
        SftSettings(tokens=100)
    own_loop = settings_for(tiny_model_folder, graph=GraphSettings(build="mine:loop"))
    with pytest.raises(ConfigurationError, match=r"leave graph\.build away"):
        sft(own_loop, out=tmp_path / "run", task=ByHeart())
    three_turns = settings_for(tiny_model_folder, form="pairs", graph=GraphSettings(revisions=2))
    with pytest.raises(ConfigurationError, match=r"sft\.form 'pairs' makes examples of two turns"):
        sft(three_turns, out=tmp_path / "run", task=ByHeart())


def test_adapters_are_merged_into_what_is_saved(tiny_model_folder: Path, tmp_path: Path) -> None:
    settings = settings_for(tiny_model_folder, lora=LoraSettings(rank=4))
    sft(settings, out=tmp_path / "run", task=ByHeart())
    saved = tmp_path / "run/model"
    assert not (saved / "adapter_config.json").exists()
    before, after = (weights(folder) for folder in (tiny_model_folder, saved))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(TransformersPolicy.from_pretrained(folder).model.state_dict())


@pytest.mark.parametrize(
    ("form", "stopped_in"),
    [
        ("pairs", "gather"),
        pytest.param("pairs", "fine_tune", marks=pytest.mark.slow),
        pytest.param("attempt", "gather", marks=pytest.mark.slow),
        pytest.param("attempt", "fine_tune", marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_as_one_that_was_not(
    form: str, stopped_in: str, tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tiny_model_folder, form=form)
    train: Callable[..., Any] = partial(sft, settings, task=ByHeart())
    train(out=tmp_path / "whole")

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(supervised_run, stopped_in, stop)
        train(out=tmp_path / "stopped")
    train(out=tmp_path / "stopped", resume=True)
    assert examples_of(tmp_path / "stopped") == examples_of(tmp_path / "whole")
    left, right = (weights(tmp_path / name / "model") for name in ("whole", "stopped"))
    assert all(torch.equal(left[name], right[name]) for name in left)
