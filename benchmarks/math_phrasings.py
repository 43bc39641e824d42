"""Answers without a box in thousands of phrasings: how many wrong ones pass, how many right ones fail?

    python benchmarks/math_phrasings.py                         # some 8,000 phrasings; about ten seconds
    python benchmarks/math_phrasings.py --shown 40 --unmarked unreadable

Templates in ten languages x forms of numbers x what belongs to a number (units, scale words, ratios, times, powers).
Every phrasing is made with a reference that it says (right), and with references that a careless reader would take it
to say (wrong): the number without its scale word, the last of a ratio, 5 of 5!, the denied number, the first of two.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from selfcorrect.rewards.maths import MathChecker


@dataclass(frozen=True)
class Phrasing:
    """A response, a reference, and whether the response says it; `kind` names the trap."""

    response: str
    reference: str
    right: bool
    kind: str


STATING = {
    "en": [
        "The answer is {}.",
        "Final answer: {}",
        "**Answer:** {}",
        "So the final answer is **{}**.",
        "#### {}",
        "Answer: {}",
        "Thus, the result is {}.",
        "Therefore, the answer is: {}",
        "### Final Answer\n\n{}",
        "The correct answer is {}",
        "**Final Answer: {}**",
        "<answer>{}</answer>",
        "12 - 4 = 8, and so on.\n\nHence the total is **{}**.",
        "Let me add 3 and 4.\n\n**{}**",
        "Our final result is {}.",
        "We get {}",
        "The total comes to **{}**.",
    ],
    "zh": ["答案是{}。", "因此，最终答案是：{}。", "所以答案为{}。", "答：{}", "结果是 {}。", "最后答案：**{}**"],
    "ja": [
        "答えは{}です。",
        "答え：{}",
        "したがって、答えは **{}** です。",
        "正解は{}です。",
        "よって答えは{}となります。",
    ],
    "ko": ["답은 {}입니다.", "정답: {}", "따라서 답은 **{}**입니다.", "최종 답은 {}입니다."],
    "ru": ["Ответ: {}", "Ответ: {}.", "Итак, ответ равен {}.", "**Ответ:** {}", "Правильный ответ — {}."],
    "de": [
        "Die Antwort ist {}.",
        "Antwort: {}",
        "Das Ergebnis ist **{}**.",
        "Die Lösung lautet {}.",
        "Das Ergebnis beträgt {}.",
    ],
    "es": [
        "La respuesta es {}.",
        "Respuesta final: {}",
        "La respuesta final es **{}**.",
        "El resultado es {}.",
        "Por lo tanto, la respuesta es {}.",
    ],
    "fr": [
        "La réponse est {}.",
        "Réponse : {}",
        "La réponse est donc **{}**.",
        "Le résultat est {}.",
        "Réponse finale : {}.",
    ],
    "it": ["La risposta è {}.", "Risposta: {}", "Il risultato è **{}**."],
    "pt": ["A resposta é {}.", "Resposta: {}", "O resultado é **{}**."],
}
DENYING = {
    "en": ["The answer is not {}.", "The answer isn't {}.", "So it cannot be {}.", "The answer is definitely not {}."],
    "zh": ["答案不是{}。"],
    "ja": ["答えは{}ではありません。"],
    "ko": ["답은 {}이 아닙니다."],
    "ru": ["Ответ не {}."],
    "de": ["Die Antwort ist nicht {}."],
    "es": ["La respuesta no es {}."],
    "fr": ["La réponse n'est pas {}."],
    "it": ["La risposta non è {}."],
    "pt": ["A resposta não é {}."],
}
HEDGING = {
    "en": [
        "The answer is {} or {}.",
        "It is either {} or {}.",
        "The answer is {}, or maybe {}.",
        "**{} or {}**",
        "Between {} and {}.",
    ],
    "zh": ["答案是{}或{}。"],
    "ja": ["答えは{}または{}です。"],
    "ko": ["답은 {} 또는 {}입니다."],
    "ru": ["Ответ: {} или {}."],
    "de": ["Die Antwort ist {} oder {}."],
    "es": ["La respuesta es {} o {}."],
    "fr": ["La réponse est {} ou {}."],
    "it": ["La risposta è {} oppure {}."],
    "pt": ["A resposta é {} ou {}."],
}

BEFORE = ["", "", "We have 3 boxes of 5.\n", "Step 1: 2 + 2 = 4. ", "Let $n = 8$, then $n^2 = 64$.\n\n"]
BEHIND = [
    "",
    "",
    "\n\nI hope this helps!",
    "\n(Check: 7 + 6 = 13.)",
    "\nThis follows from step 2.",
    "\n\n---\nLet me know if you have any questions.",
]

_SCRIPTS = {
    "full-width": "０１２３４５６７８９",
    "Arabic": "٠١٢٣٤٥٦٧٨٩",
    "Devanagari": "०१२३४५६७८९",
    "bold": "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗",
}
_CIRCLED = "⓪①②③④⑤⑥⑦⑧⑨"


def forms(rng: random.Random) -> Iterator[tuple[str, str, list[str], str]]:
    """How an answer is written, the reference that it says, those that it does not, and the kind."""
    n = rng.randint(11, 97)
    big = rng.randint(1200, 98000)
    a, b = rng.sample(range(2, 10), 2)
    yield f"{n}", f"{n}", [f"{n + 1}", f"{n}0", f"-{n}"], "integer"
    yield f"-{n}", f"-{n}", [f"{n}"], "minus"
    yield f"−{n}", f"-{n}", [f"{n}"], "U+2212"
    yield f"{big:,}", f"{big}", [f"{big % 1000}", f"{big // 1000}"], "thousands"
    yield f"{n}.5", f"{n}.5", [f"{n}", "5"], "decimal"
    yield f"{a}/{a * b + 1}", f"{a}/{a * b + 1}", [f"{a * b + 1}", f"{a}"], "fraction"
    yield "⅔", "2/3", ["3", "2"], "one sign"
    yield f"{n}½", f"{2 * n + 1}/2", [f"{n}", f"{n}/2"], "mixed"
    yield f"{a}√{b}", rf"{a}\sqrt{{{b}}}", [f"{b}", f"{a}"], "root"
    yield f"{a}π", rf"{a}\pi", [f"{a}"], "pi"
    yield f"{a}*pi", rf"{a}\pi", [f"{a}"], "pi"
    yield f"{a}!", f"{a}!", [f"{a}"], "factorial"
    yield f"{n}²", f"{n}^2", [f"{n}", "2"], "power"
    yield f"{a} x 10^{b}", f"{a * 10**b}", [f"{a}", f"{b}", "10"], "scientific"
    yield f"1.{a} million", f"1{a}00000", [f"1.{a}", f"{a}"], "scale"
    yield f"{n} thousand", f"{n}000", [f"{n}"], "scale"
    yield f"{a} dozen", f"{12 * a}", [f"{a}"], "scale"
    yield f"{n} lakh", f"{n}00000", [f"{n}"], "scale"
    yield f"{n} quadrillion", f"{n}{'0' * 15}", [f"{n}"], "scale"
    yield f"{a} eighths", f"{a}/8", [f"{a}"], "scale"
    yield f"{n} percent", rf"{n}\%", [f"{n}"], "per cent"
    yield f"{n}%", rf"{n}\%", [f"{n}"], "per cent"
    yield f"{n} mph", f"{n} mph", [f"{n} km/h", f"{n} m"], "unit"
    yield f"{n} km/h", f"{n}", [f"{n} mph"], "unit"
    yield f"{n} cm²", rf"{n}\text{{ cm}}^2", [f"{n} cm", f"{n} m^2"], "unit"
    yield f"{n} miles per hour", f"{n} mph", [f"{n} miles"], "unit"
    yield f"${n}.50", f"{n}.5", [f"{n}", "50"], "money"
    yield f"{n} apples", f"{n}", [f"{n} oranges"], "counted"
    yield f"{a}:{b}", f"{a}:{b}", [f"{b}", f"{a}"], "ratio"
    yield f"{a}:45 PM", f"{a}:45 PM", ["45", f"{a}", f"{a}:45 AM"], "time"
    yield f"({a}, {b})", f"({a}, {b})", [f"{b}", f"({b}, {a})"], "point"
    yield f"x = {n}", f"{n}", [f"-{n}"], "label"
    yield f"$x = {n}$", f"{n}", [f"{n + 2}"], "label"
    yield rf"$\frac{{{a}}}{{{a + 1}}}$", f"{a}/{a + 1}", [f"{a}", f"{a + 1}"], "formula"
    yield f"'{n}'", f"{n}", [f"{n}1"], "quotes"
    yield f"“{n}”", f"{n}", [f"{n}1"], "quotes"
    yield f"{n} squared", f"{n * n}", [f"{n}"], "changed"
    yield f"{n} halved", f"{n}/2", [f"{n}"], "changed"
    yield f"{n} in octal", f"{n}_8" if n % 10 < 8 and n < 78 else "0", [f"{n}"], "changed"
    yield f"{n} degrees below zero", f"-{n}", [f"{n}"], "changed"
    yield f"minus {n}", f"-{n}", [f"{n}"], "changed"
    for digits in _SCRIPTS.values():
        yield "".join(digits[int(c)] for c in str(n)), f"{n}", [f"{n + 1}"], "script"
    yield f"{n // 10}{_SCRIPTS['Arabic'][n % 10]}", "", [f"{n}", f"{n // 10}"], "mixed scripts"
    yield f"{_CIRCLED[n // 10]}{_CIRCLED[n % 10]}", "", [f"{n}", f"{n % 10}"], "circled"
    yield f"{a}-{a + b}", "", [f"{a}", f"{a + b}"], "range"
    yield f"less than {n}", "", [f"{n}"], "comparison"


_REFUSABLE = frozenset({"changed"})
"""Kinds that may be refused instead of read: their right reference is not counted."""


def phrasings(rounds: int, seed: int) -> Iterator[Phrasing]:
    rng = random.Random(seed)
    for _ in range(rounds):
        for language, templates in STATING.items():
            for written, reference, others, kind in forms(rng):
                for template in rng.sample(templates, min(3, len(templates))):
                    response = rng.choice(BEFORE) + template.format(written) + rng.choice(BEHIND)
                    if reference and kind not in _REFUSABLE:
                        yield Phrasing(response, reference, True, f"{kind} ({language})")
                    yield from (Phrasing(response, other, False, f"{kind} ({language})") for other in others)
        yield from _traps(rng)
        yield from _prose(rng)


def _traps(rng: random.Random) -> Iterator[Phrasing]:
    n, m = rng.sample(range(11, 99), 2)
    for language in STATING:
        for template in DENYING[language]:
            yield Phrasing(template.format(n), f"{n}", False, f"denied ({language})")
        for template in HEDGING[language]:
            for reference in (n, m):
                yield Phrasing(template.format(n, m), f"{reference}", False, f"hedge ({language})")
    yield Phrasing(f"The answer is not {n} but {m}.", f"{m}", True, "denied (en)")
    yield Phrasing(f"The answer is not {n} but {m}.", f"{n}", False, "denied (en)")
    for remark in (
        "The final answer is correct.",
        "I hope my answer is helpful.",
        "So the answer is right.",
        "My answer is as follows.",
    ):
        yield Phrasing(f"{n} + {m} = {n + m}. {remark}", f"{n + m}", True, "remark")
        yield Phrasing(f"{n} + {m} = {n + m}. {remark}", f"{m}", False, "remark")
    yield Phrasing(f"The answer is {n}. Wait, that is wrong. The answer is {m}.", f"{m}", True, "corrected")
    yield Phrasing(f"The answer is {n}. Wait, that is wrong. The answer is {m}.", f"{n}", False, "corrected")
    yield Phrasing(f"<think>\nThe answer is {n}.\n</think>\nThe answer is {m}.", f"{m}", True, "thinking")
    yield Phrasing(f"<think>\nThe answer is {n}.\n</think>\nI do not know.", f"{n}", False, "thinking")


def _prose(rng: random.Random) -> Iterator[Phrasing]:
    """Responses that end with their result, as small models write them."""
    a, b = rng.sample(range(11, 60), 2)
    yield Phrasing(
        f"She has {a} and buys {b} more. So she has {a} + {b} = {a + b} apples in total.", f"{a + b}", True, "prose"
    )
    yield Phrasing(f"She has {a} and buys {b} more. So she has {a + b} apples.", f"{a + b}", True, "prose")
    yield Phrasing(f"First, {a} * 2 = {2 * a}.\nThen {2 * a} + {b} = {2 * a + b}", f"{2 * a + b}", True, "prose")
    yield Phrasing(f"First, {a} * 2 = {2 * a}.\nThen {2 * a} + {b} = {2 * a + b}", f"{b}", False, "prose")
    yield Phrasing(f"Each of the {a} boxes holds {b} pens, so there are {a * b} pens.", f"{a * b}", True, "prose")
    yield Phrasing(f"Each of the {a} boxes holds {b} pens, so there are {a * b} pens.", f"{b}", False, "prose")
    yield Phrasing(f"Therefore x = −{a}.", f"-{a}", True, "prose")
    yield Phrasing(f"Therefore x = −{a}.", f"{a}", False, "prose")
    yield Phrasing(f"The total is **${a}.25** (see step 3).", f"{a}.25", True, "prose")
    yield Phrasing(f"The total is **${a}.25** (see step 3).", "3", False, "prose")
    yield Phrasing(f"The ratio of boys to girls is **{a}:{b}**.", f"{a}:{b}", True, "prose")
    yield Phrasing(f"We first get {a}, then {b}, and the total would be {a + b} minus 7.", "7", False, "prose")


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--shown", type=int, default=0, help="mistakes printed at most, of each of the two sorts")
    arguments.add_argument("--unmarked", choices=["guess", "unreadable"], default="guess")
    chosen = arguments.parse_args()
    wrong = right = 0
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    with MathChecker(unmarked=chosen.unmarked) as checker:
        for one in phrasings(chosen.rounds, chosen.seed):
            verdict = checker.check_sync(one.response, one.reference)
            right, wrong = right + one.right, wrong + (not one.right)
            if verdict.correct is one.right:
                continue
            counted = failed if one.right else passed
            counted[one.kind] += 1
            if counted.total() <= chosen.shown:
                print(
                    "FAILS " if one.right else "PASSES",
                    repr(one.response),
                    "for",
                    repr(one.reference),
                    "read as",
                    repr(verdict.answer),
                    verdict.reason,
                )
    print(f"{wrong} wrong, {passed.total()} pass ({passed.total() / wrong:.2%}): {dict(passed.most_common(12))}")
    print(f"{right} right, {failed.total()} fail ({failed.total() / right:.2%}): {dict(failed.most_common(12))}")


if __name__ == "__main__":
    main()
