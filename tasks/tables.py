"""Rows of a file or of a data set on the Hub: JSON Lines, a JSON array, CSV, Parquet; faults are told by their row."""

import csv
import difflib
import gzip
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from selfcorrect.bars import no_unseen_bars
from selfcorrect.errors import TaskError

FILE_ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz")
"""Files that `read_table` reads."""

Fault = tuple[int, str, str]
"""Row (from 1; in JSON Lines and CSV its line), field ("" for the whole row), what is wrong with it."""
NumberedRow = tuple[int, dict[str, Any]]

_SHOWN_FAULTS = 10


def read_table(path: Path) -> tuple[list[NumberedRow], list[Fault]]:
    """The rows of a file as they stand there, and those that are none.

    A file called .json may hold one array or one object a line; .gz is unpacked.

    Raises:
        TaskError: the file cannot be read, or is no table at all.
    """
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if suffix == ".parquet":
        return list(enumerate(_parquet(path), start=1)), []
    lines = list(_lines(path))
    if suffix == ".csv":
        return _csv_rows(path, lines), []
    if suffix.startswith(".json") and not suffix.startswith(".jsonl") and lines and lines[0][1].lstrip()[:1] == "[":
        return _array_rows(path, lines)
    return _json_lines(lines)


def hub_splits(dataset: str, config: str | None) -> dict[str, list[NumberedRow]]:
    """The rows of every split of a data set on the Hub, or of a folder that `datasets` can load.

    Raises:
        TaskError: it cannot be had; says how to go on.
    """
    found = _loaded(dataset, config, None)
    return {name: list(enumerate(map(dict, rows), start=1)) for name, rows in found.items()}


def hub_rows(dataset: str, config: str | None, split: str) -> list[NumberedRow]:
    """The rows of one split of a data set on the Hub, or of a folder that `datasets` can load.

    Raises:
        TaskError: it cannot be had; says how to go on.
    """
    return list(enumerate(map(dict, _loaded(dataset, config, split)), start=1))


_REACHED_WITHIN = 3.0
"""Seconds in which the Hub must answer a knock; its client would retry for a minute."""


def hub_fault() -> OSError | None:
    """Why the Hugging Face Hub cannot be reached from here; None if it can, or if its client knows that at once or goes
    another way."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or getproxies():
        return None
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), _REACHED_WITHIN).close()
    except OSError as error:
        return error
    return None


@contextmanager
def _cache_only() -> Iterator[None]:
    """`datasets` looks in its cache only, as it does when it is told HF_HUB_OFFLINE=1."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _loaded(dataset: str, config: str | None, split: str | None) -> Any:
    import datasets

    fault = None if Path(dataset).exists() else hub_fault()
    try:
        with no_unseen_bars(), nullcontext() if fault is None else _cache_only():
            return datasets.load_dataset(dataset, config, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        what = f"the {split} split of the data set {dataset!r}" if split else f"the data set {dataset!r}"
        why = error if fault is None else f"it is not in the cache, and the Hub cannot be reached from here ({fault})"
        raise TaskError(
            f"cannot load {what}: {why}. Without the Hub, name a file instead, as in --task FORMAT:FILE or --task "
            "rows.jsonl; a gated data set needs `hf auth login` first"
        ) from error


def renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """`row` with the names of `columns` changed to the fields that they stand for, before which a column that has such
    a name by chance gives way."""
    named = {columns[name]: item for name, item in row.items() if name in columns}
    return {name: item for name, item in row.items() if name not in columns and name not in named} | named


def refuse_missing_columns(
    path: object, rows: Sequence[NumberedRow], wanted: Sequence[str], columns: Mapping[str, str]
) -> None:
    """Raise where no row has one of `wanted`, but other columns in its place: the names are wrong, not the rows.

    Raises:
        TaskError: shows the columns there are, and the mapping that would fit.
    """
    there = dict.fromkeys(name for _, row in rows for name in row)
    unknown = [name for name in columns if name not in there]
    after = {columns.get(name, name) for name in there}
    missing = [name for name in wanted if name not in after]
    spare = [name for name in there if name not in columns and name not in wanted]
    fits = {name: found for name in missing if (found := _fitting(name, spare))}
    if not rows or (not unknown and (not missing or len(spare) < len(missing))):
        return
    said = [f"has no column {', '.join(map(repr, unknown))} (named in the mapping)"] if unknown else []
    said += [f"has nothing for {', '.join(map(repr, missing))}"] if missing else []
    kept = [f"{column}={name}" for column, name in columns.items() if column in there]
    hint = ",".join([*kept, *(f"{fits.get(name, 'COLUMN')}={name}" for name in missing)])
    how = "This would fit" if len(fits) == len(missing) else "Name the columns that are meant"
    raise TaskError(
        f"{path} {' and '.join(said)}; its columns are {', '.join(map(repr, there))}"
        + (f". {how}: --map {hint}" if hint else "")
    )


_ALIASES = {
    "prompt": ("question", "problem", "instruction", "input", "query", "text", "task", "q"),
    "answer": ("gold", "solution", "target", "output", "label", "expected", "response", "final_answer", "a"),
}


def _fitting(name: str, there: Sequence[str]) -> str | None:
    lower = {column.lower(): column for column in there}
    known = next((lower[alias] for alias in _ALIASES.get(name, ()) if alias in lower), None)
    near = difflib.get_close_matches(name, list(lower), n=1)
    return known or (lower[near[0]] if near else None)


def refuse(path: object, faults: Sequence[Fault]) -> None:
    """Raise a TaskError that lists the first ten of `faults`, if there are any."""
    if not faults:
        return
    bad_lines = len({line for line, _, _ in faults})
    head = f"{path}: {bad_lines} bad row{'s' if bad_lines > 1 else ''}"
    head += f", the first {_SHOWN_FAULTS} faults:" if len(faults) > _SHOWN_FAULTS else ":"
    shown = [f"  line {line}{', ' + name if name else ''}: {what}" for line, name, what in faults[:_SHOWN_FAULTS]]
    raise TaskError("\n".join([head, *shown]))


def shown(value: Any) -> str:
    """A value for an error message, cut off where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    content = _content(path)
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise TaskError(
                f"{path}, line {number}: not UTF-8 text ({error.reason} at byte {error.start + 1})"
            ) from error
        if text.strip():
            yield number, text


def _content(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:  # gzip.BadGzipFile is an OSError
        raise TaskError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _json_lines(lines: Sequence[tuple[int, str]]) -> tuple[list[NumberedRow], list[Fault]]:
    rows: list[NumberedRow] = []
    faults: list[Fault] = []
    for line, text in lines:
        found, value = _value(line, text)
        if not found and not isinstance(value, dict):
            found = [(line, "", f"expected an object of named fields, got a JSON {type(value).__name__}")]
        faults += found
        if not found:
            rows.append((line, value))
    return rows, faults


def _value(line: int, text: str) -> tuple[list[Fault], Any]:
    try:
        return [], json.loads(text)
    except json.JSONDecodeError as error:
        array = text.lstrip()[0] in "[]"
        hint = "; is the file one JSON array? Call it .json, or write one object a line" if array else ""
        return [(line, "", f"no valid JSON at column {error.colno}: {error.msg}{hint}")], None
    except RecursionError:
        return [(line, "", "nested too deeply to be read")], None
    except ValueError as error:  # a number of thousands of digits
        return [(line, "", f"cannot be read: {error}")], None


def _array_rows(path: Path, lines: Sequence[tuple[int, str]]) -> tuple[list[NumberedRow], list[Fault]]:
    if len(lines) > 1 and lines[1][1].lstrip()[:1] == "[":  # one list a line is no table
        return _json_lines(lines)
    found, value = _value(lines[0][0], "\n".join(text for _, text in lines))
    if found:
        raise TaskError(f"{path}: {found[0][2].partition(';')[0]}; a .json file holds one array, or one object a line")
    rows = list(enumerate(value, start=1))
    good = [(number, row) for number, row in rows if isinstance(row, dict)]
    bad = [
        (number, "", f"expected an object of named fields, got a JSON {type(row).__name__}")
        for number, row in rows
        if not isinstance(row, dict)
    ]
    return good, bad


def _csv_rows(path: Path, lines: Sequence[tuple[int, str]]) -> list[NumberedRow]:
    """The rows of a CSV file with a line of column names; fields that hold line breaks are put together again."""
    first, last = (lines[0][0], lines[-1][0]) if lines else (1, 0)
    by_number = dict(lines)
    text = (by_number.get(number, "") + "\n" for number in range(first, last + 1))
    reader = csv.DictReader(text, strict=True)
    rows: list[NumberedRow] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                what = "more" if None in row else "fewer"
                raise TaskError(f"{path}, line {first - 1 + reader.line_num}: {what} fields than there are columns")
            rows.append((first - 1 + reader.line_num, dict(row)))
    except csv.Error as error:
        raise TaskError(f"{path}, line {first - 1 + reader.line_num}: no valid CSV: {error}") from error
    return rows


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        return list(parquet.read_table(path).to_pylist())
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise TaskError(f"cannot read {path} as Parquet: {error}") from error
