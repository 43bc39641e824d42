"""A query is right if it returns what the reference query returns, on the database of the question and on two
others."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from selfcorrect import Status, Verdict
from sql_repair.sandbox import Outcome, run_query

_OTHER_DATABASES = (1_000_003, 2_000_003)
"""On one small table, wrong queries too often return the right rows."""


@dataclass(frozen=True)
class SqlChecker:
    """Judges queries by their rows; their order counts only if the reference query orders them.

    References are `{"sql": query, "schema": table, "database": number}`.

    Args:
        seconds: of each run. A slower query is wrong.
    """

    seconds: float = 0.5

    def check_sync(self, response: str, reference: Any) -> Verdict:
        started = time.monotonic()
        reason = self._fault(response, reference)
        status = Status.WRONG if reason else Status.CORRECT
        return Verdict(status, response.strip() or None, reason, time.monotonic() - started)

    async def check(self, response: str, reference: Any) -> Verdict:
        return await asyncio.to_thread(self.check_sync, response, reference)

    def validate_reference(self, reference: Any) -> str | None:
        from sql_repair.data import SCHEMAS

        if not isinstance(reference, dict) or not isinstance(reference.get("sql"), str):
            return 'a reference is {"sql": query, "schema": table, "database": number}'
        if reference.get("schema") not in SCHEMAS:
            return f"no schema {reference.get('schema')!r}; there are {', '.join(SCHEMAS)}"
        return self.outcome(reference["sql"], reference["schema"], int(reference.get("database", 0))).error or None

    def outcome(self, sql: str, schema: str, database: int) -> Outcome:
        """What a query returns on a database of the data set."""
        from sql_repair.data import SCHEMAS, table

        return run_query(sql, SCHEMAS[schema].create, table(schema, database), seconds=self.seconds)

    def _fault(self, response: str, reference: Any) -> str:
        schema = reference["schema"]
        for database in (reference["database"], *_OTHER_DATABASES):
            found, right = self.outcome(response, schema, database), self.outcome(reference["sql"], schema, database)
            if found.error:
                return found.error
            ordered = "ORDER BY" in reference["sql"].upper()
            if found.rows != right.rows if ordered else Counter(found.rows) != Counter(right.rows):
                return "the query returns other rows"
        return ""
