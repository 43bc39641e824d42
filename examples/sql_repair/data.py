"""Questions about three small tables, made by rule, with the query that answers each.

The questions use the same words for different columns: "over 50" is about pay, a price or a fare, "longer than 40"
about pages or minutes. What a question is shown with, its table and columns, tells which."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from selfcorrect import Checker, Problem
from selfcorrect.tasks import Split
from sql_repair.checker import SqlChecker
from sql_repair.sandbox import Row

NAMES = ("ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana", "ida", "jon", "kim", "lea")
NUMBERS = range(20, 100)
_CITIES = ("oslo", "rome", "lima", "kyoto")


@dataclass(frozen=True)
class Schema:
    """A table: a column of names, two of words and two of numbers, and how questions speak of them.

    Attributes:
        words: column -> (what comes before the word in a question, the words).
        numbers: column -> (what comes before a number that is smaller, and before one that is larger).
    """

    table: str
    key: str
    words: Mapping[str, tuple[str, tuple[str, ...]]]
    numbers: Mapping[str, tuple[str, str]]

    @property
    def columns(self) -> list[str]:
        return [self.key, *self.words, *self.numbers]

    @property
    def shown(self) -> str:
        """What a question is shown with."""
        return f"{self.table} ( {' '.join(self.columns)} )"

    @property
    def create(self) -> str:
        kinds = [f"{name} {'INTEGER' if name in self.numbers else 'TEXT'}" for name in self.columns]
        return f"CREATE TABLE {self.table} ({', '.join(kinds)})"

    def conditions(self) -> Iterator[tuple[str, str]]:
        """Words of a question, and the condition that they mean."""
        for column, (before, words) in self.words.items():
            yield from ((f"{before} {word}", f"{column} = '{word}'") for word in words)
        for column, (more, less) in self.numbers.items():
            for number in (30, 50, 70):
                yield f"{more} {number}", f"{column} > {number}"
                yield f"{less} {number}", f"{column} < {number}"

    def asked(self) -> dict[str, str]:
        """What a question asks for, and what is selected."""
        extremes = {
            f"{word} {column}": f"{name} ( {column} )"
            for column in self.numbers
            for word, name in (("highest", "MAX"), ("lowest", "MIN"))
        }
        return {"how many": "COUNT ( * )", "which": self.key, **extremes}


SCHEMAS = {
    schema.table: schema
    for schema in (
        Schema(
            "staff", "name",
            {"city": ("in", _CITIES), "team": ("of", ("sales", "support", "design", "research"))},
            {"age": ("older than", "younger than"), "pay": ("over", "under")},
        ),
        Schema(
            "books", "title",
            {"author": ("by", NAMES[:4]), "genre": ("of", ("crime", "travel", "poetry", "history"))},
            {"pages": ("longer than", "shorter than"), "price": ("over", "under")},
        ),
        Schema(
            "flights", "code",
            {"start": ("from", _CITIES), "goal": ("to", _CITIES)},
            {"minutes": ("longer than", "shorter than"), "fare": ("over", "under")},
        ),
    )
}  # fmt: skip


@lru_cache(maxsize=8192)
def table(name: str, seed: int) -> tuple[Row, ...]:
    """The twelve rows of a schema's database number `seed`."""
    dice = random.Random(f"{name} {seed}")
    choices = [words for _, words in SCHEMAS[name].words.values()]
    return tuple(
        (key, *(dice.choice(words) for words in choices), dice.randrange(20, 100), dice.randrange(20, 100))
        for key in NAMES
    )


def pairs(schema: Schema) -> Iterator[tuple[str, str]]:
    """Every question about a table with its query, in a fixed order."""
    conditions = list(schema.conditions())
    for asked, selected in schema.asked().items():
        start = f"SELECT {selected} FROM {schema.table} WHERE"
        for index, (words, where) in enumerate(conditions):
            yield f"{asked} {words}", f"{start} {where}"
            for more_words, more_where in conditions[index + 1 :]:
                if where.split()[0] != more_where.split()[0]:
                    yield f"{asked} {words} and {more_words}", f"{start} {where} AND {more_where}"


@lru_cache(maxsize=1)
def _shuffled() -> tuple[Problem, ...]:
    asked = [(schema, *pair) for schema in SCHEMAS.values() for pair in pairs(schema)]
    listed = [
        Problem(
            id=f"sql-{number}",
            prompt=f"{schema.shown} {question}",
            reference={"sql": sql, "schema": schema.table, "database": number},
            checker="sql",
            gold=sql,
        )
        for number, (schema, question, sql) in enumerate(asked)
    ]
    random.Random(0).shuffle(listed)
    return tuple(listed)


@dataclass(frozen=True)
class SqlTask:
    """All questions; every fifth is held out for testing."""

    name: str = "sql"
    checker: Checker = field(default_factory=SqlChecker)

    def available(self, split: Split) -> int:
        return len(self._all(split))

    def problems(self, split: Split, count: int, *, seed: int = 0) -> Sequence[Problem]:
        return random.Random(seed).sample(self._all(split), count)

    def _all(self, split: Split) -> list[Problem]:
        return [problem for number, problem in enumerate(_shuffled()) if (number % 5 == 0) == (split == "test")]


def vocabulary() -> list[str]:
    """Every word that questions, queries and shown outcomes can hold."""
    words: dict[str, None] = {}
    for problem in _shuffled():
        words.update(dict.fromkeys([*problem.prompt.split(), *str(problem.gold).split()]))
    listed = [word for schema in SCHEMAS.values() for _, known in schema.words.values() for word in known]
    words.update(dict.fromkeys([*NAMES, *listed, *map(str, range(13)), *map(str, NUMBERS)]))
    words.update(dict.fromkeys([":", ";", "check", "again", "right", "wrong", "error", "nothing", "more"]))
    return list(words)
