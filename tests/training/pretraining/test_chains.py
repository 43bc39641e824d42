"""The corpus of the policy for many looks: all of it is true, and the word before a changed answer tells nothing."""

import itertools
import random
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from selfcorrect.rewards.countdown import CountdownChecker
from selfcorrect.tasks.countdown import CountdownTask, all_solutions
from selfcorrect.training.pretraining.chains import (
    LOOK_TOKENS,
    Chain,
    ChainMixture,
    Group,
    chained,
    chains_about,
    grouped,
    of_like_length,
)
from selfcorrect.training.pretraining.corpus import Attempted, Document, Part
from selfcorrect.training.pretraining.learning import collate
from selfcorrect.training.pretraining.second_looks import COUNTDOWN_LOOK, EOS, HOMES

CHECKER = CountdownChecker()


def right(answer: str, group: Group) -> bool:
    return CHECKER.check_sync(answer, group.problem.reference).correct


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    items = []
    for problem in itertools.islice(CountdownTask(3).stream("train", seed=3), 60):
        gold = str(problem.gold)
        for attempt in (gold, gold.rsplit(" ", 1)[0] + " 7", gold.rsplit(" ", 1)[0] + " 9"):
            items.append(Attempted(problem, attempt, CHECKER.check_sync(attempt, problem.reference).correct))
    return grouped(items)


def looks_of(chain: Chain) -> list[tuple[str, str]]:
    """Every look of a chain after "again :": what was looked at, and what was said and written."""
    text = " ".join(part.text for part in chain.parts)
    turns = [turn.strip() for turn in text.split(EOS) if turn.strip()]
    answer, found = turns[0].split(" : ", 1)[1], []
    for turn in turns[1:]:
        kind, said = turn.split(" : ", 1)
        if kind == "again":
            found.append((answer, said))
            answer = re.split(r" (?:right|wrong) ", f" {said}")[1]
    return found


def test_all_solutions_are_all_that_the_checker_accepts_in_the_form_of_the_task() -> None:
    # 3 + 5 = 8, 8 * 7 = 56 is one of two ways: 3 * 7 = 21, 5 * 7 = 35, 21 + 35 would use 7 twice
    assert all_solutions([3, 5, 7], 56) == ["5 + 3 = 8 ; 8 * 7 = 56"]
    assert all_solutions([2, 2, 3], 12) == [
        "2 * 2 = 4 ; 4 * 3 = 12",
        "2 + 2 = 4 ; 4 * 3 = 12",
        "3 * 2 = 6 ; 6 * 2 = 12",
    ]
    for problem in itertools.islice(CountdownTask(4).stream("train", seed=9), 20):
        reference = problem.reference
        solutions = all_solutions(reference["numbers"], reference["target"])
        assert problem.gold in solutions
        assert all(CHECKER.check_sync(text, reference).correct for text in solutions)


def test_what_is_learnt_is_true_or_a_repetition(groups: list[Group]) -> None:
    rng = random.Random(0)
    for _ in range(400):
        group = rng.choice(groups)
        chain = chained(group, ChainMixture(), rng, COUNTDOWN_LOOK)
        shown = ""
        for part in chain.parts:
            if part.learnt:
                said = re.split(r"(?:^| )(right|wrong)(?: |$)", part.text.removesuffix(f" {EOS}"))
                assert said[0] == "" or is_true(said[0])
                if said[2] and said[1] == "wrong":
                    assert right(said[2], group)
                elif said[2]:
                    assert said[2] in shown
            shown += f" {part.text}"


def is_true(step: str) -> bool:
    left, operator, other, _, value = step.split()
    a, b = int(left), int(other)
    values = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b and a % b == 0 else 0}
    truth = values[operator]
    return int(value) == (truth if 1 <= truth <= 199 else 0)


def test_the_word_of_a_look_does_not_depend_on_the_answer_that_is_looked_at(groups: list[Group]) -> None:
    """Else pre-training would teach self-correction itself."""
    rng = random.Random(1)
    says_right: dict[bool, list[bool]] = {True: [], False: []}
    for _ in range(2500):
        group = rng.choice(groups)
        for seen, said in looks_of(chained(group, ChainMixture(stands_by=0.45), rng, COUNTDOWN_LOOK)):
            says_right[right(seen, group)].append(" right " in f" {said} ")
    shares = {correct: sum(words) / len(words) for correct, words in says_right.items()}
    assert min(map(len, says_right.values())) > 1500
    assert abs(shares[True] - shares[False]) < 0.04  # five standard errors of about 0.01 each
    assert shares[True] == pytest.approx(0.45, abs=0.04)


def test_an_answer_called_wrong_is_changed_and_one_called_right_is_not(groups: list[Group]) -> None:
    rng = random.Random(2)
    for _ in range(300):
        for seen, said in looks_of(chained(rng.choice(groups), ChainMixture(), rng, COUNTDOWN_LOOK)):
            _, word, answer = re.split(r" ?\b(right|wrong) ", f"{said}", maxsplit=1)
            assert (answer == seen) == (word == "right")


def test_verdicts_are_true(groups: list[Group]) -> None:
    rng, told = random.Random(3), set()
    for _ in range(300):
        group = rng.choice(groups)
        text = " ".join(part.text for part in chained(group, ChainMixture(verdicts=0.5), rng, COUNTDOWN_LOOK).parts)
        answer = ""
        for turn in text.split(EOS):
            if " check : " in f" {turn.strip()} "[: len(" check : ")]:
                assert turn.strip().endswith("right" if right(answer, group) else "wrong")
                told.add(right(answer, group))
            elif turn.strip():
                answer = re.split(r" (?:right|wrong) | get \d+ : ", turn.strip())[-1]
    assert told == {True, False}


def test_chains_have_one_to_the_most_looks_and_gaps_reach_the_farthest(groups: list[Group]) -> None:
    rng = random.Random(4)
    mixture = ChainMixture(looks=8, farthest=32, verdicts=0.0)
    chains = [chained(rng.choice(groups), mixture, rng, COUNTDOWN_LOOK) for _ in range(2000)]
    counts = [len(looks_of(chain)) for chain in chains]
    assert set(counts) == set(range(1, 9))
    reached = [count + chain.gap // LOOK_TOKENS for count, chain in zip(counts, chains, strict=True)]
    assert max(reached) == 32 and all(chain.gap % LOOK_TOKENS == 0 for chain in chains)
    assert 0.4 < sum(chain.gap > 0 for chain in chains) / len(chains) < 0.6


def test_a_gap_lies_before_a_look_that_is_not_learnt_and_nothing_is_learnt_from_beyond_it(groups: list[Group]) -> None:
    """What a look looks at is always near: only what lies before that is moved away."""
    rng = random.Random(7)
    mixture = ChainMixture(looks=4, gaps=1.0)
    chains = [chained(rng.choice(groups), mixture, rng, COUNTDOWN_LOOK) for _ in range(300)]
    for chain in chains:
        if chain.gap:
            assert chain.parts[chain.gap_at].text == "again :" and not chain.parts[chain.gap_at + 1].learnt
            learnt = [part for part in chain.parts if part.learnt]
            assert learnt and learnt[0] in chain.parts[chain.gap_at + 2 :]
    assert sum(chain.gap == 0 for chain in chains) == sum(len(looks_of(chain)) == 1 for chain in chains) > 0


def test_attention_reaches_across_a_gap(tiny_model_folder: Path) -> None:
    """Some models take positions that jump for the beginning of another text, and hide what came before."""
    tokenizer = HOMES["countdown"].tokenizer(64)
    model = LlamaForCausalLM.from_pretrained(tiny_model_folder)
    chains = [
        Chain((Part(f"{number} get 8 :", False), Part("again :", False), Part("3 <eos>", True)), gap=10)
        for number in (3, 5)
    ]
    ids, _, positions = collate(tokenizer, chains)
    logits = model(input_ids=ids, position_ids=positions).logits
    assert (logits[0, -1] - logits[1, -1]).abs().max() > 1e-5


def test_a_look_can_say_the_problem_again_before_it_answers(groups: list[Group]) -> None:
    rng = random.Random(8)
    mixture = ChainMixture(looks=4, gaps=0.0, restated=True)
    for _ in range(200):
        group = rng.choice(groups)
        chain = chained(group, mixture, rng, COUNTDOWN_LOOK)
        for turn in " ".join(part.text for part in chain.parts).split(EOS)[1:]:
            if turn.strip().startswith("again :"):
                word = "right" if " right " in turn else "wrong"
                assert f" {word} {group.problem.prompt} " in turn
                answer = turn.split(f"{group.problem.prompt} ")[1].strip()
                judged = CHECKER.check_sync(turn, group.problem.reference)
                assert judged.correct == right(answer, group)  # what is said before the answer takes nothing from it
    assert ChainMixture(restated=True).look_tokens == LOOK_TOKENS + 7


def test_chains_grow(groups: list[Group]) -> None:
    mixture = ChainMixture(looks=8, verdicts=0.0, grows_over=600)
    stream = chains_about(groups, mixture, random.Random(9), COUNTDOWN_LOOK)
    counts = [len(looks_of(chain)) for chain in itertools.islice(stream, 1200)]
    assert max(counts[:100]) == 2 and max(counts[100:200]) == 3 and max(counts[500:600]) == 7 and max(counts) == 8


def test_problems_with_one_solution_are_left_out() -> None:
    problem = CountdownTask(3)._problem([3, 5, 7], 56, "5 + 3 = 8 ; 8 * 7 = 56")
    assert grouped([Attempted(problem, str(problem.gold), True)]) == []


def test_chains_come_without_end_and_about_all_problems(groups: list[Group]) -> None:
    stream = chains_about(groups, ChainMixture(looks=2), random.Random(5), COUNTDOWN_LOOK)
    asked = {chain.parts[0].text.split(" :")[0] for chain in itertools.islice(stream, 2000)}
    assert asked == {group.problem.prompt.removesuffix(" :") for group in groups}


def test_collating_learns_the_learnt_parts_and_moves_positions_behind_the_gap() -> None:
    tokenizer = HOMES["countdown"].tokenizer(64)
    chain = Chain((Part("3 5 get 8 :", False), Part("3 + 5 = 8 <eos>", True), Part("again :", False)), gap=10, gap_at=2)
    ids, learnt, positions = collate(tokenizer, [chain, Document("3 5 get 8 :", "3 + 5 = 8")])
    assert tokenizer.decode(ids[0]).split()[:5] == ["3", "5", "get", "8", ":"]
    assert learnt.tolist() == [[0] * 5 + [1] * 6 + [0] * 2, [0] * 5 + [1] * 6 + [0] * 2]
    assert positions[0].tolist() == [*range(11), 21, 22]
    assert torch.equal(positions[1], torch.arange(13))


def test_batches_of_like_length_hold_the_same_documents() -> None:
    documents = [Document("3 " * length, "5") for length in range(32)]
    ordered = list(itertools.islice(of_like_length(iter(documents), 2, random.Random(6)), 32))
    assert sorted(ordered, key=documents.index) == documents
    pairs = [
        (documents.index(one), documents.index(other)) for one, other in zip(ordered[::2], ordered[1::2], strict=True)
    ]
    assert all(other - one == 1 for one, other in pairs) and pairs != sorted(pairs)
