"""Every kind of verifier learns to tell answers apart that can be told apart by a word."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import WORDS, llama, word_tokenizer
from transformers import AutoModelForCausalLM

from selfcorrect.rewards.verifiers.encoding import Wording, tokenizer_fingerprint
from selfcorrect.rewards.verifiers.kinds import ScoringModel
from selfcorrect.training.vstar.fits import Labelled, Pair, StepLog, optimiser_for
from selfcorrect.training.vstar.preference import train_likelihood
from selfcorrect.training.vstar.settings import HeadSettings, PreferenceSettings
from selfcorrect.training.vstar.verifiers import train_head

pytestmark = pytest.mark.slow

PROMPTS = [f"{number} get :" for number in range(16)]
RIGHT, WRONG = "1 + 1 = 2 ; 2 * 2 = 4", "1 + 1 = 2 ; 2 - 2 = 7"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("base"), word_tokenizer(WORDS, pad_token="<pad>")
    llama(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mean_scores(verifier: Any) -> tuple[float, float]:
    right, wrong = (verifier.score_all([(prompt, answer) for prompt in PROMPTS]) for answer in (RIGHT, WRONG))
    return sum(right) / len(right), sum(wrong) / len(wrong)


def calibrated(verifier: Any) -> Any:
    asked = [(prompt, answer) for answer in (RIGHT, WRONG) for prompt in PROMPTS]
    verifier.calibrate(asked, [True] * len(PROMPTS) + [False] * len(PROMPTS))
    return verifier


@pytest.mark.parametrize("kind", ["classifier", "stepwise"])
@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_head_learns(
    kind: Any, optimiser: Any, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = 1 if kind == "classifier" else 2
    answers = [Labelled(prompt, RIGHT, (1.0,) * steps) for prompt in PROMPTS]
    answers += [Labelled(prompt, WRONG, (0.0,) * steps) for prompt in PROMPTS]
    rate = 1e-2 if optimiser == "adamw" else 5e-2
    settings = HeadSettings(optimiser=optimiser, learning_rate=rate, epochs=12, batch=16)
    told: list[float] = []
    log = StepLog(lambda figures: told.append(figures["loss"]))
    verifier = train_head(kind, base, answers, settings, wording=Wording(), work=tmp_path, seed=0, log=log)
    right, wrong = mean_scores(verifier)
    assert right > 0.8 and wrong < 0.2
    assert capsys.readouterr().out == "", "`--json` owns the standard output"
    assert log.steps == 24 and told[-1] < told[0]
    assert verifier.card.tokenizer == tokenizer_fingerprint(verifier.tokenizer)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_the_head_may_learn_faster_than_the_body(optimiser: Any, base: Path, tmp_path: Path) -> None:
    answers = [Labelled(prompt, text, (aim,)) for prompt in PROMPTS for text, aim in ((RIGHT, 1.0), (WRONG, 0.0))]

    def gap(head_rate: float | None) -> float:
        settings = HeadSettings(
            optimiser=optimiser, learning_rate=1e-5, head_learning_rate=head_rate, epochs=12, batch=16
        )
        right, wrong = mean_scores(
            train_head("classifier", base, answers, settings, wording=Wording(), work=tmp_path, seed=0)
        )
        return right - wrong

    # at the body's rate the head stays at its beginning, 0, and no answer is told from another
    assert abs(gap(None)) < 0.01 and gap(3e-2) > 0.3


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_every_weight_is_learnt_once_and_the_head_at_its_own_rate(optimiser: Any, base: Path) -> None:
    model = ScoringModel(AutoModelForCausalLM.from_pretrained(base).base_model)
    made = optimiser_for(
        model,
        HeadSettings(optimiser=optimiser, learning_rate=1e-5, head_learning_rate=1e-2),
        list(model.head.parameters()),
    )
    assert made is not None
    learnt = [(id(weight), group["lr"]) for group in made.param_groups for weight in group["params"]]
    assert sorted(weight for weight, _ in learnt) == sorted(map(id, model.parameters()))
    heads = set(map(id, model.head.parameters()))
    assert {rate for weight, rate in learnt if weight in heads} == {1e-2}
    assert max(rate for weight, rate in learnt if weight not in heads) == 1e-5


@pytest.mark.parametrize("measure", ["log_ratio", "log_likelihood"])
def test_dpo_makes_right_answers_likelier(measure: Any, base: Path, tmp_path: Path) -> None:
    pairs = [Pair(prompt, RIGHT, WRONG) for prompt in PROMPTS]
    settings = PreferenceSettings(learning_rate=5e-3, epochs=8, batch=8, measure=measure)
    wording = Wording(review="check : {last_step} right")
    verifier = calibrated(train_likelihood(base, pairs, settings, wording=wording, work=tmp_path, seed=0))
    right, wrong = mean_scores(verifier)
    assert right > 0.8 and wrong < 0.2
    assert verifier.card.trained["pairs"] == len(PROMPTS)


def test_the_same_seed_gives_the_same_verifier(base: Path, tmp_path: Path) -> None:
    answers = [Labelled(prompt, text, (aim,)) for prompt in PROMPTS for text, aim in ((RIGHT, 1.0), (WRONG, 0.0))]
    settings = HeadSettings(epochs=2, batch=8)

    def made(seed: int) -> list[float | None]:
        verifier = train_head("classifier", base, answers, settings, wording=Wording(), work=tmp_path, seed=seed)
        return verifier.raw_scores([(prompt, RIGHT) for prompt in PROMPTS])

    assert made(1) == made(1) != made(2)


def answers_of_many_lengths() -> list[Labelled]:
    """11 answers, of one to three steps."""
    texts = [" ; ".join(["1 + 1 = 2"] * (1 + number % 3)) for number in range(11)]
    return [Labelled(PROMPTS[at], text, (float(at % 2),) * (1 + text.count(";"))) for at, text in enumerate(texts)]


@pytest.mark.parametrize("kind", ["classifier", "stepwise", "likelihood"])
def test_a_step_in_several_passes_is_the_step_of_the_whole_batch(kind: Any, base: Path, tmp_path: Path) -> None:
    """Also where passes hold different numbers of steps, and the last one of an epoch fewer answers."""

    def weights(micro_batch: int | None) -> dict[str, Any]:
        given: dict[str, Any] = {"optimiser": "adamw", "learning_rate": 1e-2, "epochs": 2}
        given |= {"batch": 4, "micro_batch": micro_batch}
        fixed: dict[str, Any] = {"wording": Wording(), "work": tmp_path, "seed": 0}
        if kind == "likelihood":
            pairs = [Pair(one.prompt, one.response, WRONG) for one in answers_of_many_lengths()]
            return dict(train_likelihood(base, pairs, PreferenceSettings(**given), **fixed).model.state_dict())
        answers = answers_of_many_lengths()
        if kind == "classifier":
            answers = [Labelled(one.prompt, one.response, one.targets[:1]) for one in answers]
        return dict(train_head(kind, base, answers, HeadSettings(**given), **fixed).model.state_dict())

    whole = weights(None)
    for micro_batch in (1, 3):  # 3 does not divide 4, so two are read at once
        torch.testing.assert_close(weights(micro_batch), whole, rtol=0, atol=1e-4)
