"""Whole runs of the supervised arms on the embedded policy, very small, and what interrupts them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.policy import derive_seed
from selfcorrect.errors import ConfigurationError, TrainingError
from selfcorrect.training.arms.sft import pair_sft
from selfcorrect.training.arms.star import star
from selfcorrect.training.arms.supervised import run as supervised_run
from selfcorrect.training.arms.supervised.examples import Example
from selfcorrect.training.arms.supervised.fine_tuning import Tuning, fine_tune
from selfcorrect.training.arms.supervised.sampling import gather
from selfcorrect.training.settings import (
    EvaluationSettings,
    GraphSettings,
    PairSftSettings,
    PolicySettings,
    RunSettings,
    StarSettings,
)

pytestmark = pytest.mark.slow

TIMES = {"tokens_per_second", "rollout_seconds", "judging_seconds"}
SMALL: dict[str, Any] = {"problems": 8, "samples_per_problem": 4, "steps": 3, "batch_size": 8}


def settings_for(**changes: Any) -> RunSettings:
    return RunSettings(
        **(
            {
                "policy": PolicySettings(max_new_tokens=40),
                "star": StarSettings(data="single", loops=2, **SMALL),
                "pair_sft": PairSftSettings(data="pairs+correct", **SMALL),
                "evaluation": EvaluationSettings(problems=8),
            }
            | changes
        )
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(TransformersPolicy.from_pretrained(folder).model.state_dict())


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


def examples_of(out: Path, loop: int) -> list[Example]:
    file = out / "loops" / f"loop-{loop}" / "examples.jsonl"
    return [Example.of_row(json.loads(line)) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two loops that nothing interrupted."""
    out = tmp_path_factory.mktemp("star") / "run"
    star(settings_for(), out=out)
    return out


def test_a_run_leaves_the_files_and_the_budget_of_every_arm(finished: Path) -> None:
    for name in ("config.yaml", "metrics.json", "episodes.jsonl", "report.html", "model/config.json"):
        assert (finished / name).exists()
    rows = rows_of(finished)
    assert [(row["step"], row["episodes"], row["optimiser_steps"]) for row in rows] == [(1, 32, 3), (2, 32, 3)]
    final = json.loads((finished / "metrics.json").read_text())
    assert final["budget"] == {"generated_tokens": sum(row["tokens"] for row in rows), "optimiser_steps": 6}
    assert final["before"]["n"] == final["after"]["n"] == 8
    assert same(weights(finished / "model"), weights(finished / "loops/loop-2/model"))


def test_every_loop_fine_tunes_the_original_policy_and_not_the_one_before(finished: Path, tmp_path: Path) -> None:
    star_settings, loop = settings_for().star, 2
    tuning = Tuning(star_settings.steps, star_settings.batch_size, star_settings.learning_rate)
    seed = derive_seed(0, loop)
    made = {}
    for name, start in (("original", embedded_folder()), ("before", finished / "loops/loop-1/model")):
        policy = TransformersPolicy.from_pretrained(start)
        fine_tune(policy, examples_of(finished, loop), tuning, seed=seed, folder=tmp_path / name)
        made[name] = weights(tmp_path / name)
    found = weights(finished / "loops/loop-2/model")
    assert same(found, made["original"]) and not same(found, made["before"])


def test_a_run_stopped_after_its_sampling_goes_on_without_doing_anything_twice(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def interrupted(*arguments: Any, folder: Path, **options: Any) -> dict[str, float]:
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fine_tune(*arguments, folder=folder, **options)

    def not_again(*arguments: Any) -> None:
        raise AssertionError("a loop was sampled twice")

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(supervised_run, "fine_tune", interrupted)
        with pytest.raises(KeyboardInterrupt):
            star(settings_for(), out=out)
    assert [row["step"] for row in rows_of(out)] == [1]
    monkeypatch.setattr(supervised_run, "gather", not_again)
    star(settings_for(), out=out, resume=True)
    assert rows_of(out) == rows_of(finished)
    assert same(weights(out / "model"), weights(finished / "model"))
    assert examples_of(out, 2) == examples_of(finished, 2)


def test_a_loop_that_was_killed_while_sampling_is_sampled_anew(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    calls: list[int] = []

    def interrupted(task: Any, settings: Any, seed: int, *rest: Any) -> Any:
        calls.append(seed)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return gather(task, settings, seed, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(supervised_run, "gather", interrupted)
        with pytest.raises(KeyboardInterrupt):
            star(settings_for(), out=out)
    star(settings_for(), out=out, resume=True)
    assert rows_of(out) == rows_of(finished) and same(weights(out / "model"), weights(finished / "model"))


def test_a_policy_that_solves_nothing_stops_the_run_in_words_and_learns_nothing(
    tiny_model_folder: Path, tmp_path: Path
) -> None:
    hopeless = PolicySettings(model=str(tiny_model_folder), max_new_tokens=8)
    with pytest.raises(TrainingError, match=r"loop 1: 32 samples of 8 problems gave no correct answer.*star\.problems"):
        star(settings_for(policy=hopeless), out=tmp_path / "star")
    assert not (tmp_path / "star/model").exists() and not (tmp_path / "star/loops/loop-1/model").exists()
    with pytest.raises(TrainingError, match=r"gave no problem with a right answer and another one.*pair_sft\.problems"):
        pair_sft(settings_for(policy=hopeless), out=tmp_path / "pairs")


def test_right_answers_that_were_cut_off_are_told_where_nothing_is_left_to_learn(
    tiny_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = {"episodes": 32.0, "problems": 8.0, "accuracy_t1": 1 / 32, "left_out/right_but_cut_off": 1.0}
    monkeypatch.setattr(supervised_run, "gather", lambda *given: ([], figures))
    words = (
        r"no correct answer \(1 right but cut off\).*Answers that the token limit ends are not learnt: raise policy.max"
    )
    with pytest.raises(TrainingError, match=words):
        star(settings_for(policy=PolicySettings(model=str(tiny_model_folder), max_new_tokens=8)), out=tmp_path)


def test_pair_sft_learns_once_from_the_base_and_knows_its_turns(tmp_path: Path) -> None:
    pair_sft(settings_for(), out=tmp_path / "run")
    (row,) = rows_of(tmp_path / "run")
    examples = examples_of(tmp_path / "run", 1)
    assert row["examples"] == len(examples) and row["optimiser_steps"] == 3
    tokenizer = TransformersPolicy.from_pretrained(embedded_folder()).tokenizer
    for example in examples:
        first = f"{example.first} <eos> again :"
        assert tokenizer.decode(example.context_ids).endswith(first)


def test_multi_turn_star_learns_second_answers_of_its_own_episodes(tmp_path: Path) -> None:
    small = {**SMALL, "problems": 24}
    settings = settings_for(star=StarSettings(data="multi+correct", loops=1, **small))
    star(settings, out=tmp_path / "run")
    (row,) = rows_of(tmp_path / "run")
    kinds = {"incorrect to correct", "correct to correct"}
    assert {example.kind for example in examples_of(tmp_path / "run", 1)} == kinds
    assert row["delta"] == pytest.approx(row["accuracy_t2"] - row["accuracy_t1"])


def test_another_variant_cannot_go_on_with_a_run(finished: Path) -> None:
    other = settings_for(star=StarSettings(data="multi", loops=2, **SMALL))
    with pytest.raises(ConfigurationError, match="star --data single"):
        star(other, out=finished, resume=True)


def test_pair_sft_refuses_loops_of_other_shapes(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="two turns"):
        pair_sft(settings_for(graph=GraphSettings(revisions=2)), out=tmp_path / "run")
