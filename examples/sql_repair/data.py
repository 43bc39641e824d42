"""Questions about a small table, made by rule, with the query that answers each."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from selfcorrect import Checker, Problem
from selfcorrect.tasks import Split
from sql_repair.checker import SqlChecker
from sql_repair.sandbox import Row

CREATE = "CREATE TABLE staff (name TEXT, city TEXT, team TEXT, age INTEGER, pay INTEGER)"
NAMES = ("ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana", "ida", "jon", "kim", "lea")
CITIES = ("oslo", "rome", "lima", "kyoto")
TEAMS = ("sales", "support", "design", "research")
NUMBERS = range(20, 100)

_ASKED = {
    "how many staff": "COUNT ( * )",
    "names of staff": "name",
    "cities of staff": "city",
    "highest pay of staff": "MAX ( pay )",
    "lowest pay of staff": "MIN ( pay )",
    "highest age of staff": "MAX ( age )",
    "lowest age of staff": "MIN ( age )",
}


@lru_cache(maxsize=4096)
def table(seed: int) -> tuple[Row, ...]:
    """The twelve rows of database number `seed`."""
    dice = random.Random(seed)
    return tuple(
        (name, dice.choice(CITIES), dice.choice(TEAMS), dice.randrange(20, 65), dice.randrange(30, 100))
        for name in NAMES
    )


def pairs() -> Iterator[tuple[str, str]]:
    """Every question with its query, in a fixed order."""
    conditions = [(f"in {city}", f"city = '{city}'") for city in CITIES]
    conditions += [(f"of team {team}", f"team = '{team}'") for team in TEAMS]
    for column, more, less in (("age", "older than", "younger than"), ("pay", "paid more than", "paid less than")):
        for number in range(30, 80, 10):
            conditions += [(f"{more} {number}", f"{column} > {number}"), (f"{less} {number}", f"{column} < {number}")]
    for asked, selected in _ASKED.items():
        for index, (words, where) in enumerate(conditions):
            yield f"{asked} {words}", f"SELECT {selected} FROM staff WHERE {where}"
            for more_words, more_where in conditions[index + 1 :]:
                if where.split()[0] != more_where.split()[0]:
                    yield (
                        f"{asked} {words} and {more_words}",
                        f"SELECT {selected} FROM staff WHERE {where} AND {more_where}",
                    )


@lru_cache(maxsize=1)
def _shuffled() -> tuple[Problem, ...]:
    listed = [
        Problem(
            id=f"sql-{number}", prompt=question, reference={"sql": sql, "database": number}, checker="sql", gold=sql
        )
        for number, (question, sql) in enumerate(pairs())
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
    for question, sql in pairs():
        words.update(dict.fromkeys([*question.split(), *sql.split()]))
    words.update(dict.fromkeys([*NAMES, *CITIES, *TEAMS, *map(str, range(13)), *map(str, NUMBERS)]))
    words.update(dict.fromkeys([":", ";", "check", "again", "right", "wrong", "error", "nothing", "more"]))
    return list(words)
