"""The script that makes small policies: a few steps of it for either task, and what its documents claim."""

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from selfcorrect.agents.policies.pretrained import embedded_folder
from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.agents.prompts import COUNTDOWN, PLAIN, prompts_of, turns_made_for
from selfcorrect.training.pretraining import pretrain
from selfcorrect.training.pretraining.corpus import Attempted, Document, Mixture, mixed
from selfcorrect.training.pretraining.learning import _batches, learn
from selfcorrect.training.pretraining.pretrain import RECIPES
from selfcorrect.training.pretraining.second_looks import EOS, HOMES, UNKNOWN, both_ends_worked_out

FEW = (
    "--hidden 16 --layers 1 --heads 2 --intermediate 16 --rows 4 --solution-steps 2 --mixed-steps 2 --verdict-steps 1 "
    "--retry-steps 1 --attempts 8 --chain-rows 2 --beside-rows 2"
)
STEP = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_few_steps_leave_a_policy_its_recipe_and_its_prompts(name: str, tmp_path: Path) -> None:
    pretrain.main(
        ["--recipe", name, "--out", str(tmp_path / "policy"), "--first-phase", str(tmp_path / "first"), *FEW.split()]
    )
    recipe = json.loads((tmp_path / "policy" / "recipe.json").read_text())
    assert (recipe["task"], recipe["hidden"], recipe["solution_steps"]) == (RECIPES[name].task, 16, 2)
    policy = TransformersPolicy.from_pretrained(tmp_path / "policy")
    assert prompts_of(policy, english=PLAIN) == COUNTDOWN
    goes_on = bool(RECIPES[name].begins_with)
    assert (tmp_path / "first" / "config.json").exists() != goes_on
    assert turns_made_for(policy) == (33 if goes_on else None)
    assert policy.model.config.hidden_size == (128 if goes_on else 16)
    assert policy.model.config.max_position_embeddings == RECIPES[name].positions


def test_documents_that_are_learnt_beside_others_have_as_much_weight(tiny_model_folder: Path) -> None:
    """One step on two kinds of documents is the step on the mean of their losses, however many there are of each."""
    tokenizer = HOMES["countdown"].tokenizer()
    one, other = Document("3 5 get 8 :", "3 + 5 = 8"), Document("3 5 get 15 :", "3 * 5 = 15 ; 15 * 1 = 15")
    told: list[str] = []

    def loss_of(documents: list[Document], beside: list[Document] | None = None) -> float:
        model = LlamaForCausalLM.from_pretrained(tiny_model_folder)
        learn(
            model,
            tokenizer,
            itertools.cycle(documents),
            rows=len(documents),
            steps=1,
            learning_rate=1e-3,
            report=told.append,
            beside=None if beside is None else (itertools.cycle(beside), len(beside)),
        )
        return float(told[-1].split("loss ")[1].split(",")[0])

    alone = loss_of([one]), loss_of([other])
    assert loss_of([one], [other] * 3) == pytest.approx(sum(alone) / 2, abs=2e-4)


@pytest.mark.slow
def test_learning_can_end_by_the_clock_and_is_watched(tiny_model_folder: Path) -> None:
    documents = itertools.cycle([Document("3 5 get 8 :", "3 + 5 = 8")])
    told: list[str] = []
    watched: list[int] = []

    def learnt(**until: Any) -> None:
        model = LlamaForCausalLM.from_pretrained(tiny_model_folder)
        tokenizer = HOMES["countdown"].tokenizer()
        learn(
            model, tokenizer, documents, rows=1, learning_rate=1e-3, report=told.append, watch=watched.append, **until
        )

    learnt(steps=50, minutes=1e-9)
    assert told[0].startswith("step 1/50:") and len(told) == 1
    learnt(steps=201)
    assert [line.split(":")[0] for line in told[1:]] == ["step 100/201", "step 200/201", "step 201/201"]
    assert watched == [100, 200]


def test_batches_that_are_made_ahead_are_the_same() -> None:
    tokenizer = HOMES["countdown"].tokenizer()

    def batches(ahead: bool) -> list[list[Any]]:
        stream = itertools.cycle([Document("3 5 get 8 :", "3 + 5 = 8"), Document("3 5 7 get 8 :", "3 + 5 = 8")])
        source = [(stream, 3), (itertools.cycle([Document("5", "7")]), 1)]
        made = _batches(tokenizer, source, torch.device("cpu"), ahead=ahead)
        return [[part.tolist() for batch in both for part in batch] for both in itertools.islice(made, 3)]

    assert batches(ahead=True) == batches(ahead=False)


@pytest.mark.slow
def test_what_a_policy_is_so_far_can_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "KEPT_EVERY", 0.0)
    few = FEW.replace("--mixed-steps 2", "--mixed-steps 101")
    folders = ["--out", str(tmp_path / "policy"), "--keep", str(tmp_path / "kept")]
    pretrain.main(["--recipe", "looks", "--looks", "2", *folders, *few.split()])
    assert [kept.name for kept in (tmp_path / "kept").iterdir()] == ["step-100"]
    assert turns_made_for(TransformersPolicy.from_pretrained(tmp_path / "kept" / "step-100")) == 33


def test_the_same_recipe_gives_the_same_weights() -> None:
    recipe = replace(
        RECIPES["equations"],
        hidden=16,
        layers=1,
        heads=2,
        intermediate=16,
        rows=4,
        solution_steps=2,
        mixed_steps=1,
        verdict_steps=1,
        retry_steps=1,
        attempts=8,
    )
    (one, _), (other, _) = (pretrain.pretrain(recipe, lambda line: None) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(("policy", "recipe"), [("embedded", "countdown"), ("embedded-looks", "looks")])
def test_the_recipes_of_the_embedded_policies_are_those_they_were_made_by(policy: str, recipe: str) -> None:
    shipped = json.loads((embedded_folder(policy) / "recipe.json").read_text())
    chosen = {name: value for name, value in shipped.items() if name not in ("seconds", "device", "minutes")}
    assert {name: getattr(RECIPES[recipe], name) for name in chosen} == chosen


def test_an_equation_is_tested_by_the_last_difference_and_by_multiplying_back() -> None:
    right, false_rest, false_quotient = (
        "63 - 28 = 35 ; 35 / 5 = 7",
        "63 - 28 = 40 ; 40 / 5 = 8",
        "63 - 21 = 42 ; 42 / 5 = 8",
    )
    assert both_ends_worked_out(f"96 - 33 = 63 ; {right}") == "63 - 28 = 35 ; 7 * 5 = 35 "
    assert both_ends_worked_out(f"96 - 33 = 63 ; {false_rest}") == "63 - 28 = 35 ; 8 * 5 = 40 "
    assert both_ends_worked_out(f"96 - 33 = 63 ; {false_quotient}") == "63 - 21 = 42 ; 8 * 5 = 40 "
    assert both_ends_worked_out("9 - 33 = 60 ; 60 / 5 = 12") == "9 - 33 = 0 ; 12 * 5 = 60 "
    for unreadable in ("", "35 / 5 = 7", "9 - 4 = 5 ; 5 / 5", "9 - 4 = 5 ; 5 - 5 = 0", "99 - 9 = 90 ; 90 / 15 = 60"):
        assert both_ends_worked_out(unreadable) == ""


def falsified(attempt: str, rng: random.Random) -> str:
    """`attempt` with one of its numbers changed."""
    words = attempt.split()
    place = rng.choice([number for number, word in enumerate(words) if word.isdigit()])
    words[place] = str(int(words[place]) % 150 + 1)
    return " ".join(words)


def written_otherwise(gold: str) -> str:
    """Another right answer: of an equation in another order; of Countdown, by one space."""
    words = gold.split()
    if words[1] != "-" or words[7] != "-" or words[13:14] != ["/"]:
        return f"{gold} "
    total, first, second, rest = int(words[0]), int(words[2]), int(words[8]), words[10]
    return f"{total} - {second} = {total - second} ; {total - second} - {first} = {rest} ; {' '.join(words[12:])}"


def attempted(task: str, count: int) -> list[Attempted]:
    """A third of the attempts are the gold solution, a third another right one, a third falsified."""
    opened, rng = HOMES[task].open(RECIPES[task].numbers), random.Random(0)
    items = []
    for number, problem in enumerate(opened.problems("train", count, seed=1)):
        attempt = str(problem.gold)
        if number % 3 == 1:
            attempt = written_otherwise(attempt)
        elif number % 3 == 2:
            attempt = falsified(attempt, rng)
        items.append(Attempted(problem, attempt, opened.checker.check_sync(attempt, problem.reference).correct))
    return items


def claims(document: Document, attempt: str) -> str:
    """What a document says in its own name: not the attempt that it repeats."""
    return document.continuation.replace(attempt, "")


@pytest.mark.parametrize("task", sorted(HOMES))
def test_every_document_is_true(task: str) -> None:
    """Each step is recomputed, each solution checked, each verdict compared with the checker's."""
    items = attempted(task, 1200)
    home = HOMES[task]
    checker = home.open(RECIPES[task].numbers).checker
    by_prompt = {item.problem.prompt.removesuffix(" :"): item for item in items}
    documents = list(mixed(items, Mixture(retries=0.5, verdicts=0.2, hints=0.2), random.Random(1), home.look))
    assert len(documents) == len(items)
    kinds = dict.fromkeys(("again :", "check :", "hint", "solution"), 0)
    for document in documents:
        item = by_prompt[re.split(r" :| hint ", document.context)[0]]
        kind = next((kind for kind in ("again :", "check :", "hint") if f" {kind}" in document.context), "solution")
        kinds[kind] += 1
        for left, operator, right, value in STEP.findall(claims(document, item.attempt)):
            assert_true_step(
                int(left),
                operator,
                int(right),
                int(value),
            )
        words = document.continuation.split()
        if kind == "check :":
            assert words[-1] == ("right" if item.correct else "wrong")
        elif kind == "again :" and "right" in words:
            assert document.continuation.endswith(f"right {item.attempt}")
        else:
            if kind == "again :":
                assert not home.look.same_way(item.attempt, document.continuation.split("wrong ")[-1])
            solution = document.continuation.split("wrong ")[-1]
            assert checker.check_sync(solution, item.problem.reference).correct
    assert min(kinds.values()) > 50


def assert_true_step(left: int, operator: str, right: int, value: int) -> None:
    if value == 0:  # second looks write 0 for what is no whole number of 1 to 199
        true = {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else 0}[operator]
        assert not (true == int(true) and 1 <= true <= 199)
    elif operator == "/":
        assert value * right == left
    else:
        assert value == {"+": left + right, "-": left - right, "*": left * right}[operator]


@pytest.mark.parametrize("task", sorted(HOMES))
def test_the_vocabulary_knows_every_word_of_the_documents(task: str) -> None:
    home = HOMES[task]
    tokenizer = home.tokenizer()
    unknown = tokenizer.convert_tokens_to_ids(UNKNOWN)
    for document in mixed(
        attempted(task, 300), Mixture(retries=0.5, verdicts=0.2, hints=0.2), random.Random(2), home.look
    ):
        assert unknown not in tokenizer.encode(f"{document.context} {document.continuation} {EOS}")
