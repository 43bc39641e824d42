"""Passages about people, an index of them in sqlite (FTS5, ranked by BM25), and questions made by rule.

A question does not use the words of the passage that answers it: "city of ada" is answered by "ada works in oslo".
Searching for the question's own words finds some passage about ada, by chance the right one."""

import random
import sqlite3
from collections.abc import Sequence
from functools import lru_cache

from gallery import NAMES_OF_PEOPLE

from selfcorrect import Problem

NAMES = (*NAMES_OF_PEOPLE, *["elsa", "fritz", "greta", "hugo", "iris", "jana", "karl", "lola", "milo", "nils"])
_ABOUT = {
    "city": ("works in", ("oslo", "rome", "lima", "kyoto")),
    "food": ("eats much", ("soup", "rice", "bread", "fish")),
    "animal": ("keeps a", ("cat", "dog", "horse", "goat")),
    "sport": ("plays some", ("chess", "golf", "tennis", "rugby")),
    "colour": ("paints with", ("red", "blue", "green", "black")),
    "goods": ("sells old", ("lamps", "books", "chairs", "coats")),
}
_HELD_OUT = 120


@lru_cache(maxsize=1)
def passages() -> tuple[str, ...]:
    """Six passages a person, in a fixed shuffled order: BM25 ranks equal scores by it."""
    dice = random.Random(0)
    written = [f"{name} {verb} {dice.choice(things)}" for name in NAMES for verb, things in _ABOUT.values()]
    dice.shuffle(written)
    return tuple(written)


@lru_cache(maxsize=1)
def _index() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.execute("CREATE VIRTUAL TABLE passages USING fts5(text)")
    connection.executemany("INSERT INTO passages VALUES (?)", [(passage,) for passage in passages()])
    return connection


def search(words: str) -> str:
    """The best passage that holds any of `words`, or "nothing". Quoted: no word is ever an operator of FTS5."""
    quoted = ['"{}"'.format(word.replace('"', '""')) for word in words.replace("\x00", " ").split()]
    if not quoted:
        return "nothing"
    asked = "SELECT text FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT 1"
    found = _index().execute(asked, (" OR ".join(quoted),)).fetchone()
    return str(found[0]) if found else "nothing"


def questions() -> tuple[Problem, ...]:
    """One question a passage; its reference is the passage, whose last word is the answer."""
    about = {verb: kind for kind, (verb, _) in _ABOUT.items()}
    made = []
    for passage in sorted(passages()):
        name, verb, answer = passage.split()[0], " ".join(passage.split()[1:3]), passage.split()[-1]
        asked = f"{about[verb]} of {name}"
        made.append(Problem(id=asked.replace(" ", "-"), prompt=asked, reference=passage, checker="rag", gold=answer))
    random.Random(1).shuffle(made)
    return tuple(made)


def split() -> tuple[Sequence[Problem], Sequence[Problem]]:
    """Questions to train on, and as many that are held out."""
    made = questions()
    return made[_HELD_OUT:], made[:_HELD_OUT]


def vocabulary() -> list[str]:
    """Every word that is shown or can be written."""
    words = " ".join([*passages(), *_ABOUT, "of nothing : ; yes no useful search answer"]).split()
    return list(dict.fromkeys(words))
