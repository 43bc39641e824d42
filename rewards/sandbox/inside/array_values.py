"""Arrays of numpy; tables, series, indexes, times and the missing value of pandas, as plain data. Only where the
checker allows these packages.

What crosses of an array is its type, its shape and its bytes; of pandas' own types (categories, nullable numbers, times
with a zone) the items and the type's name. Arrays of other objects cross item by item: nothing here needs a pickle.
"""

import sys
from collections.abc import Callable
from typing import Any

_KINDS = "biufcUSmM"
"""numpy's kinds of plain items: numbers, text, bytes, times."""
Write = Callable[[Any], Any]


def write_array(value: Any, write: Write) -> list[Any] | None:
    """A value of these packages; None for other things of theirs."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and type(value) is numpy.ndarray:
        if value.dtype.kind not in _KINDS:
            return ["a", "objects", list(value.shape), [write(item) for item in value.ravel().tolist()]]
        return ["a", value.dtype.str, list(value.shape), numpy.ascontiguousarray(value).tobytes().hex()]
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in _KINDS:
        return ["a", value.dtype.str, None, value.tobytes().hex()]
    return None if pandas is None else _write_pandas(value, write, pandas)


def _write_pandas(value: Any, write: Write, pandas: Any) -> list[Any] | None:
    kind = type(value)
    if value is pandas.NA or value is pandas.NaT:
        return ["a", "missing", "NA" if value is pandas.NA else "NaT"]
    if kind in (pandas.Timestamp, pandas.Timedelta):
        return ["a", "time", kind.__name__, value.isoformat()]
    if kind is pandas.Period:
        return ["a", "time", "Period", str(value), value.freqstr]
    if kind is pandas.Series:
        return ["a", "series", write(value.name), _index(value.index, write), _column(value.array, write)]
    if kind is pandas.DataFrame:
        columns = [_column(value.iloc[:, place].array, write) for place in range(value.shape[1])]
        return ["a", "frame", _index(value.columns, write), _index(value.index, write), columns]
    return ["a", "index", _index(value, write)] if isinstance(value, pandas.Index) else None


def _column(array: Any, write: Write) -> Any:
    """The items of a column with what tells their type."""
    pandas, dtype = sys.modules["pandas"], array.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return ["category", _index(dtype.categories, write), bool(dtype.ordered), write(array.codes)]
    if isinstance(dtype, sys.modules["numpy"].dtype):
        return ["plain", write(array.to_numpy())]
    return ["typed", str(dtype), [write(item) for item in array.astype(object).tolist()]]


def _index(index: Any, write: Write) -> Any:
    pandas, names = sys.modules["pandas"], [write(name) for name in index.names]
    if type(index) is pandas.RangeIndex:
        return ["range", names, index.start, index.stop, index.step]
    if type(index) is pandas.MultiIndex:
        return ["levels", names, [write(item) for item in index.tolist()]]
    return ["items", names, _column(index.array, write), getattr(index, "freqstr", None)]


def read_array(parts: list[Any], read: Callable[[Any], Any]) -> Any:
    """What `write_array` wrote, without its tag."""
    kind, numpy = parts[0], sys.modules["numpy"]
    if kind == "objects":
        items = numpy.empty(len(parts[2]), dtype=object)
        items[:] = [read(item) for item in parts[2]]
        return items.reshape(parts[1])
    if kind in _PANDAS:
        return _PANDAS[kind](sys.modules["pandas"], read, *parts[1:])
    dtype = numpy.dtype(kind)
    if dtype.kind not in _KINDS:
        raise ValueError("an array of objects")
    content = numpy.frombuffer(bytes.fromhex(parts[2]), dtype=dtype)
    return content[0] if parts[1] is None else content.reshape(parts[1]).copy()


def _read_column(pandas: Any, read: Callable[[Any], Any], told: list[Any]) -> Any:
    if told[0] == "category":
        dtype = pandas.CategoricalDtype(_read_index(pandas, read, told[1]), bool(told[2]))
        return pandas.Categorical.from_codes(read(told[3]), dtype=dtype)
    if told[0] == "plain":
        return read(told[1])
    return pandas.array([read(item) for item in told[2]], dtype=str(told[1]))


def _read_index(pandas: Any, read: Callable[[Any], Any], told: list[Any]) -> Any:
    names = [read(name) for name in told[1]]
    if told[0] == "range":
        return pandas.RangeIndex(*map(int, told[2:]), name=names[0])
    if told[0] == "levels":
        return pandas.MultiIndex.from_tuples([read(item) for item in told[2]], names=names)
    index = pandas.Index(_read_column(pandas, read, told[2]), name=names[0])
    if told[3] is not None and not isinstance(index, pandas.PeriodIndex):  # whose type tells it already
        index.freq = str(told[3])
    return index


def _time(pandas: Any, _: Any, kind: str, text: str, freq: str | None = None) -> Any:
    if kind == "Period":
        return pandas.Period(text, freq=freq)
    return {"Timestamp": pandas.Timestamp, "Timedelta": pandas.Timedelta}[kind](text)


def _series(pandas: Any, read: Callable[[Any], Any], name: Any, index: list[Any], column: list[Any]) -> Any:
    content = _read_column(pandas, read, column)
    return pandas.Series(
        content, index=_read_index(pandas, read, index), name=read(name), dtype=getattr(content, "dtype", None)
    )


def _frame(pandas: Any, read: Callable[[Any], Any], columns: list[Any], index: list[Any], content: list[Any]) -> Any:
    rows = _read_index(pandas, read, index)
    made = {place: _series(pandas, read, None, index, column) for place, column in enumerate(content)}
    frame = pandas.DataFrame(made, index=rows)
    frame.columns = _read_index(pandas, read, columns)
    return frame


_PANDAS: dict[str, Callable[..., Any]] = {
    "missing": lambda pandas, _, name: {"NA": pandas.NA, "NaT": pandas.NaT}[name],
    "time": _time,
    "index": lambda pandas, read, told: _read_index(pandas, read, told),
    "series": _series,
    "frame": _frame,
}
