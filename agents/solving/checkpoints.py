"""Where long episodes are kept: any LangGraph checkpointer, or the name of a database."""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import FileLock, Timeout
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from selfcorrect.errors import ConfigurationError, GraphError

Checkpointer = BaseCheckpointSaver[Any] | str | Path | None
_OPENING_SECONDS = 5.0
"""As long as sqlite itself waits for what else is locked."""


@asynccontextmanager
async def opened(checkpointer: Checkpointer) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    """A saver: the given one, that of a named database (closed afterwards), or one in memory for None.

    A name is the path of a sqlite file, made if it is not there, or a "postgresql://..." address.

    Raises:
        ConfigurationError: the saver is for synchronous graphs, its extra is not installed, or the file cannot be
            opened, read or written.
    """
    if checkpointer is None:
        from langgraph.checkpoint.memory import InMemorySaver

        yield InMemorySaver()
    elif isinstance(checkpointer, BaseCheckpointSaver):
        yield _asynchronous(checkpointer)
    elif str(checkpointer).startswith(("postgres://", "postgresql://")):
        async with _postgres(str(checkpointer)) as saver:
            yield saver
    else:
        async with _sqlite(Path(checkpointer)) as saver:
            yield saver


@asynccontextmanager
async def _sqlite(path: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    try:
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
    except ImportError as error:
        raise ConfigurationError(_missing("a sqlite file", "sqlite")) from error
    if not path.parent.is_dir():
        raise ConfigurationError(f"checkpointer {str(path)!r}: the folder {path.parent} does not exist")
    if path.is_dir():
        raise ConfigurationError(f"checkpointer {str(path)!r} is a folder; give the path of a file")
    try:
        async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
            await _set_up(saver)
            yield saver
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(f"checkpointer {str(path)!r}: {error}; {_advice(str(error))}") from error


async def _set_up(saver: Any) -> None:
    """Make the tables of a sqlite store. Whoever opens a new one turns its log on, and sqlite does not wait for another
    who is doing so: we do."""
    latest = time.monotonic() + _OPENING_SECONDS
    while True:
        try:
            await saver.setup()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > latest:
                raise
        await asyncio.sleep(0.02)


def _advice(said: str) -> str:
    """What to do about an error of sqlite."""
    advice = {
        "full": "free some space on its disk and call again: what was stored is whole",
        "readonly": "make the file and its folder writable, or give another path",
        "read-only": "make the file and its folder writable, or give another path",
        "disk I/O": "look whether its disk is full or failing, and call again: what was stored is whole",
        "locked": "another program holds the file; wait for it, or give another path",
        "unable to open": "make the folder writable, or give another path",
    }
    for words, told in advice.items():
        if words in said:
            return told
    return "the file is damaged or no sqlite database: restore a copy of it, or give another path"


# One thread of a store is one episode or one search: nobody else may play it meanwhile, in this process or another.

_played: set[tuple[str, str]] = set()
"""The threads that are played in this process right now, by store and name."""


@contextmanager
def alone(checkpointer: Checkpointer, thread: str) -> Iterator[None]:
    """Hold `thread` of that store. An episode without a store is alone anyway.

    Raises:
        GraphError: somebody holds it already.
    """
    if checkpointer is None:
        yield
        return
    store = str(checkpointer) if not hasattr(checkpointer, "serde") else f"saver {id(checkpointer)}"
    if (store, thread) in _played:
        raise GraphError(f"thread {thread!r} is being played already; give every episode a thread_id of its own")
    _played.add((store, thread))
    try:
        yield
    finally:
        _played.discard((store, thread))


@asynccontextmanager
async def held(checkpointer: Checkpointer, saver: BaseCheckpointSaver[Any], thread: str) -> AsyncIterator[None]:
    """Hold `thread` of a named store against other processes: two that play one episode would pay every turn twice.

    A saver that was given as an object has no name by which other processes could be told; it is not held.

    Raises:
        GraphError: another process plays the thread.
    """
    name = hashlib.sha256(thread.encode(errors="surrogatepass")).hexdigest()[:16]
    if checkpointer is None or isinstance(checkpointer, BaseCheckpointSaver):
        yield
    elif str(checkpointer).startswith(("postgres://", "postgresql://")):
        cursor = await cast(Any, saver).conn.execute("SELECT pg_try_advisory_lock(%s) AS held", (int(name[:15], 16),))
        if not (await cursor.fetchone())["held"]:
            raise _played_elsewhere(thread)
        yield  # the lock ends with the connection
    else:
        locks = Path(f"{checkpointer}.locks")
        lock = FileLock(locks / name, timeout=0)
        try:
            locks.mkdir(exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise _played_elsewhere(thread) from error
        except OSError as error:
            raise ConfigurationError(f"checkpointer {str(checkpointer)!r}: {error}; {_advice('readonly')}") from error
        try:
            yield
        finally:
            lock.release()


def _played_elsewhere(thread: str) -> GraphError:
    return GraphError(f"thread {thread!r} is being played by another process; wait for it, or give another thread_id")


def _missing(store: str, extra: str) -> str:
    from selfcorrect.distribution import install_command

    return f"keeping episodes in {store} needs: {install_command(extra)}"


@asynccontextmanager
async def _postgres(address: str) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    try:
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    except ImportError as error:
        raise ConfigurationError(_missing("Postgres", "postgres")) from error
    import psycopg

    try:
        async with AsyncPostgresSaver.from_conn_string(address) as saver:
            await saver.setup()
            yield saver
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())
        raise ConfigurationError(
            f"cannot reach the Postgres server of the checkpointer, or it failed: {said}; call again once it answers: "
            "what was stored is whole"
        ) from error


def _asynchronous(saver: BaseCheckpointSaver[Any]) -> BaseCheckpointSaver[Any]:
    name = type(saver).__name__
    if name in ("SqliteSaver", "PostgresSaver"):
        raise ConfigurationError(
            f"{name} serves synchronous graphs only: give checkpointer the path of the file or the address of the "
            f"database, or an Async{name}"
        )
    return saver


async def keep_latest(saver: BaseCheckpointSaver[Any], thread: str) -> None:
    """Forget all but the latest checkpoint of `thread`, in stores that are known.

    Every checkpoint holds all turns, so that keeping them all takes space that grows with the square of the number of
    turns.
    """
    name = type(saver).__name__
    if name == "AsyncSqliteSaver":
        await _keep_latest_in_sqlite(saver, thread)
    elif name == "AsyncPostgresSaver":
        await _keep_latest_in_postgres(saver, thread)
    elif name == "InMemorySaver":
        _keep_latest_in_memory(saver, thread)


_OLDER = (
    "thread_id = {} AND checkpoint_id < (SELECT MAX(latest.checkpoint_id) FROM checkpoints AS latest "
    "WHERE latest.thread_id = {} AND latest.checkpoint_ns = {table}.checkpoint_ns)"
)
"""A graph inside another one has a name space of its own, and younger checkpoints than the latest of the outer one."""


async def _keep_latest_in_sqlite(saver: Any, thread: str) -> None:
    async with saver.lock:
        for table in ("writes", "checkpoints"):
            await saver.conn.execute(f"DELETE FROM {table} WHERE {_OLDER.format('?', '?', table=table)}", (thread,) * 2)
        await saver.conn.commit()


async def _keep_latest_in_postgres(saver: Any, thread: str) -> None:
    used = (
        "SELECT v.key || ' ' || v.value FROM checkpoints, jsonb_each_text(checkpoint -> 'channel_versions') AS v "
        "WHERE thread_id = %s"
    )
    async with saver.lock, saver.conn.transaction():
        for table in ("checkpoint_writes", "checkpoints"):
            older = _OLDER.format("%s", "%s", table=table)
            await saver.conn.execute(f"DELETE FROM {table} WHERE {older}", (thread, thread))
        await saver.conn.execute(
            f"DELETE FROM checkpoint_blobs WHERE thread_id = %s AND channel || ' ' || version NOT IN ({used})",
            (thread, thread),
        )


def _keep_latest_in_memory(saver: Any, thread: str) -> None:
    for checkpoints in saver.storage[thread].values():
        for old in sorted(checkpoints)[:-1]:
            del checkpoints[old]
    kept = {number for checkpoints in saver.storage[thread].values() for number in checkpoints}
    for key in [key for key in saver.writes if key[0] == thread and key[2] not in kept]:
        del saver.writes[key]
    latest = [
        saver.serde.loads_typed(entry[0]) for entries in saver.storage[thread].values() for entry in entries.values()
    ]
    used = {item for checkpoint in latest for item in checkpoint["channel_versions"].items()}
    for key in [key for key in saver.blobs if key[0] == thread and (key[2], key[3]) not in used]:
        del saver.blobs[key]


def refuse_unstorable(state: dict[str, Any]) -> None:
    """Raise a GraphError that names what in `state` a checkpointer cannot store."""
    place = _unstorable(state, "state")
    if place is not None:
        raise GraphError(
            f"{place}, which no checkpointer can store; keep plain data in it (numbers, texts, lists, dicts)"
        )


@contextmanager
def naming_the_unstorable() -> Iterator[None]:
    """Say what to do where a node has written what no checkpointer stores.

    Raises:
        GraphError: it has.
    """
    try:
        yield
    except TypeError as error:
        if "serializable" not in str(error):
            raise
        raise GraphError(
            f"a node of the graph wrote something that the checkpointer cannot store ({error}); keep plain data in the "
            "state (numbers, texts, lists, dicts), not tensors or models"
        ) from error


def _unstorable(value: Any, path: str) -> str | None:
    """Where the innermost unstorable value is and of what type, or None."""
    inside: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        inside = [(f"{path}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        inside = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
    for place, item in inside:
        found = _unstorable(item, place)
        if found is not None:
            return found
    try:
        JsonPlusSerializer().dumps_typed(value)
    except TypeError:
        return f"{path} holds a {type(value).__name__}"
    return None
