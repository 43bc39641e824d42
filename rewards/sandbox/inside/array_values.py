"""Arrays of numpy, data frames and series of pandas, as plain data. Only where the checker allows these packages.

What crosses of an array is its type, its shape and its bytes; types that hold objects are refused, because they would
need a pickle.
"""

import sys
from collections.abc import Callable
from typing import Any

_KINDS = "biufcUSmM"
"""numpy's kinds of plain items: numbers, text, bytes, times."""


def write_array(value: Any, write: Callable[[Any], Any]) -> list[Any] | None:
    """An array, a numpy number, a Series or a DataFrame; None for other things of these packages."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and type(value) is numpy.ndarray:
        if value.dtype.kind not in _KINDS:
            return ["a", "objects", list(value.shape), [write(item) for item in value.ravel().tolist()]]
        return ["a", value.dtype.str, list(value.shape), numpy.ascontiguousarray(value).tobytes().hex()]
    if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind in _KINDS:
        return ["a", value.dtype.str, None, value.tobytes().hex()]
    if pandas is not None and type(value) is pandas.Series:
        return ["a", "series", write(value.name), write(value.index.tolist()), write(value.to_numpy())]
    if pandas is not None and type(value) is pandas.DataFrame:
        columns = [write(value.iloc[:, place].to_numpy()) for place in range(value.shape[1])]
        return ["a", "frame", write(value.columns.tolist()), write(value.index.tolist()), columns]
    return None


def read_array(parts: list[Any], read: Callable[[Any], Any]) -> Any:
    """What `write_array` wrote, without its tag."""
    kind, numpy, pandas = parts[0], sys.modules["numpy"], sys.modules.get("pandas")
    if kind == "objects":
        items = numpy.empty(len(parts[2]), dtype=object)
        items[:] = [read(item) for item in parts[2]]
        return items.reshape(parts[1])
    if kind == "series" and pandas is not None:
        return pandas.Series(read(parts[3]), index=read(parts[2]), name=read(parts[1]))
    if kind == "frame" and pandas is not None:
        frame = pandas.DataFrame({place: read(column) for place, column in enumerate(parts[3])}, index=read(parts[2]))
        frame.columns = read(parts[1])
        return frame
    dtype = numpy.dtype(kind)
    if dtype.kind not in _KINDS:
        raise ValueError("an array of objects")
    content = numpy.frombuffer(bytes.fromhex(parts[2]), dtype=dtype)
    return content[0] if parts[1] is None else content.reshape(parts[1]).copy()
