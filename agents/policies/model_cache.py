"""Models that were written anew in the form that they are trained in, kept in the user's cache; their folders may be
removed at any time."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock
from safetensors import SafetensorError

from selfcorrect.errors import PolicyError, TrainingError
from selfcorrect.files import replacing


def cache_folder(kind: str) -> Path:
    """Where models of a kind lie; XDG_CACHE_HOME moves it."""
    return platformdirs.user_cache_path("selfcorrect") / kind


def place(kind: str, name: str, identity: object) -> Path:
    """Where the model lies, or will lie, that `identity` (by its repr) describes.

    Args:
        kind: what was made of what; a folder of the cache.
        name: for people, who look into the cache.
        identity: all that the model depends on.
    """
    key = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    return cache_folder(kind) / f"{name}-{key}"


def kept(folder: Path, write: Callable[[Path], None]) -> Path:
    """`folder`, a `place`, made by `write` unless it is there. Of processes that ask for it at once, one makes it.

    Args:
        folder: of the model.
        write: makes the folder that it is given, whole or not at all.

    Raises:
        PolicyError: the cache cannot be written.
    """
    if folder.is_dir():
        return folder
    with _writable(folder), FileLock(folder.with_name(folder.name + ".lock")):
        if not folder.is_dir():
            write(folder)
    return folder


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write both to `folder`, whole or not at all. Raises what saving raises."""
    with replacing(folder) as unfinished:
        try:
            model.save_pretrained(unfinished)
            tokenizer.save_pretrained(unfinished)
        except (OSError, SafetensorError):
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """What stands in the way of writing `folder` is told as a fault of the cache."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, TrainingError, SafetensorError) as error:
        fault = error.__cause__ if isinstance(error, TrainingError) else error
        raise PolicyError(
            f"cannot keep the converted model in {folder.parent}: {getattr(fault, 'strerror', None) or fault}; free "
            "some space, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
