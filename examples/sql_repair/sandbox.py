"""Running SQL that nobody has read: in memory, read-only, bounded in time, rows and size."""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Value = int | float | str | None
Row = tuple[Value, ...]

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
_FUNCTIONS = {"count", "min", "max", "sum", "avg", "abs", "round", "lower", "upper", "length", "coalesce"}
_STEPS_BETWEEN_LOOKS = 1_000
_LARGEST_VALUE = 10_000
"""Bytes of a text or blob, and of a statement."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a query returned: its rows, or why there are none."""

    rows: tuple[Row, ...] = ()
    error: str = ""


def run_query(
    sql: str, create: str, rows: Iterable[Sequence[Value]], *, seconds: float = 0.5, most_rows: int = 100
) -> Outcome:
    """Run one query on a fresh database in memory.

    The statement may only read: no writing, attaching, pragmas or functions beyond a short list. It runs in this
    process, in sqlite's own interpreter.

    Args:
        sql: the query.
        create: the statement that makes the only table.
        rows: what is in it.
        seconds: the query is stopped after this time.
        most_rows: more rows than this are an error.
    """
    connection = sqlite3.connect(":memory:")
    try:
        table = _filled(connection, create, rows)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _LARGEST_VALUE)
        connection.set_authorizer(_only_reads(table))
        end = time.monotonic() + seconds
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
        found = connection.execute(sql).fetchmany(most_rows + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        return Outcome(error=str(error) or type(error).__name__)
    finally:
        connection.close()
    return Outcome(tuple(found)) if len(found) <= most_rows else Outcome(error=f"more than {most_rows} rows")


def _filled(connection: sqlite3.Connection, create: str, rows: Iterable[Sequence[Value]]) -> str:
    connection.execute(create)
    (table, columns), *_ = connection.execute(
        "SELECT m.name, (SELECT COUNT(*) FROM pragma_table_info(m.name)) FROM sqlite_master m WHERE m.type = 'table'"
    ).fetchall()
    connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)
    connection.commit()
    return str(table)


def _only_reads(table: str) -> Callable[[int, str | None, str | None, str | None, str | None], int]:
    def allowed(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
        reads = action in _READING and first in (None, "", table)
        calls = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _FUNCTIONS
        return sqlite3.SQLITE_OK if reads or calls else sqlite3.SQLITE_DENY

    return allowed
