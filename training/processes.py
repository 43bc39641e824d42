"""Several processes that train one policy: who is first, what all of them agree on, what is told once.

A launcher (torchrun, accelerate launch) starts the same command several times and says in the environment which of how
many a process is. The first one, of rank 0, makes the run folder, writes and prints; the others do as it found, and
each plays its own problems. What one of them does alone the others wait for, `PATIENCE` seconds at most: a process that
dies is noticed by the launcher, which ends the others, and not by a limit of time.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from selfcorrect.errors import ConfigurationError, SelfCorrectError, TrainingError
from selfcorrect.files import replacing

PATIENCE = 6 * 3600.0
"""Seconds that a process waits for another one: for the slowest share of an evaluation, or for a checkpoint."""

_TOLD = "selfcorrect/told"
_LOST = ("connection closed", "connection reset", "connection refused", "broken pipe", "remote process exited")

Thing = TypeVar("Thing")
Given = ParamSpec("Given")


def count() -> int:
    """How many processes the launcher started, on all machines; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this is the one that writes and prints."""
    return rank() == 0


def on_this_machine() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def name() -> str:
    """This process, for messages: "process 1 of 2"."""
    return f"process {rank()} of {count()}"


def first_only(write: Callable[Given, None]) -> Callable[Given, None]:
    """`write` as it is in the first process; it does nothing in the others."""

    @wraps(write)
    def written(*args: Given.args, **kwargs: Given.kwargs) -> None:
        if is_first():
            write(*args, **kwargs)

    return written


def refuse_several(what: str) -> None:
    """Raise a ConfigurationError if `what`, which runs in one process, was started by a launcher in several."""
    if count() > 1:
        raise ConfigurationError(
            f"{what} runs in one process, and {count()} were started: start it without torchrun or accelerate launch"
        )


def refuse_uneven(size: int, setting: str) -> None:
    """Raise a ConfigurationError if the `size` of a batch over all processes does not divide by their number."""
    if size % count():
        raise ConfigurationError(f"{setting} {size} does not divide into {count()} processes: make it a multiple")


def refuse_apart(accelerator: Any) -> None:
    """Raise a ConfigurationError if accelerate would train in this process alone, and the others each for themselves:
    it does so where it expects an accelerator and finds none."""
    if accelerator.num_processes != count():
        raise ConfigurationError(
            f"{count()} processes were started, and accelerate trains in {accelerator.num_processes}: on machines "
            "without accelerators put the policy on the CPU (device='cpu')"
        )


def refuse_divided(what: str, because: str) -> None:
    """Raise a ConfigurationError if the launcher asks for FSDP or DeepSpeed, and `what` does not go with them."""
    for name, variable in (("FSDP", "ACCELERATE_USE_FSDP"), ("DeepSpeed", "ACCELERATE_USE_DEEPSPEED")):
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise ConfigurationError(
                f"{what} does not go with {name}: {because}. Start it with torchrun, or with configs/ddp.yaml"
            )


def join(*, cpu: bool, options: dict[str, Any] | None = None) -> None:
    """Meet the other processes. Does nothing where there is one, or where they have met.

    Args:
        cpu: whether they train on processors, whatever else there is.
        options: those of `trl.GRPOConfig` that the run was given; "ddp_timeout" takes the place of `PATIENCE`, and
            "ddp_backend" that of nccl or gloo.

    Raises:
        ConfigurationError: the launcher asks for weights that only its first process would load.
    """
    if count() == 1:
        return
    import torch.distributed
    from accelerate import PartialState

    if torch.distributed.is_initialized():
        return
    if os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "false").lower() in ("true", "1"):
        raise ConfigurationError(
            "fsdp_cpu_ram_efficient_loading would leave the weights of all processes but the first empty, and each "
            "process plays with its own before they are sharded: set it to false, as configs/fsdp2.yaml does"
        )
    chosen = options or {}
    timeout = timedelta(seconds=float(chosen.get("ddp_timeout", PATIENCE)))
    PartialState(cpu=cpu, timeout=timeout, backend=chosen.get("ddp_backend"))


def together(values: Thing) -> list[Thing]:
    """What each process has, in the order of their ranks. All must ask."""
    if count() == 1:
        return [values]
    from accelerate.utils import gather_object

    return cast(list[Thing], gather_object([values]))


def by_first(action: Callable[[], Thing]) -> Thing:
    """What `action` gives in the first process, the only one that carries it out. The others wait for it.

    Raises:
        SelfCorrectError: in all processes, if it raises one in the first.
    """
    if count() == 1:
        return action()
    from accelerate.utils import broadcast_object_list

    if is_first():
        result, error = _tried(action)
        broadcast_object_list([(result, _told(error))])
    else:
        result, error = broadcast_object_list([None])[0]
    if error is not None:
        raise error
    return cast(Thing, result)


@contextmanager
def replacing_by_first(path: Path) -> Iterator[Path]:
    """`replacing`, in which all processes know where the new is written: the first makes room for it, and puts it in
    place when the block has ended well in all of them."""
    with ExitStack() as held:
        yield by_first(lambda: held.enter_context(replacing(path)))
        agreed(lambda: None)
        by_first(held.close)


def agreed(action: Callable[[], Thing]) -> Thing:
    """What `action` gives here, if it goes well in every process.

    Raises:
        SelfCorrectError: in all processes, if it raises one in any; that of the lowest rank.
    """
    if count() == 1:
        return action()
    result, error = _tried(action)
    found = [one for one in together(_told(error)) if one is not None]
    if error is not None and not isinstance(error, SelfCorrectError):
        raise error
    if found:
        raise found[0] from error
    return cast(Thing, result)


def _tried(action: Callable[[], Thing]) -> tuple[Thing | None, Exception | None]:
    """What `action` gives, or what it raises; whoever asks raises it, once the other processes know."""
    try:
        return action(), None
    except Exception as error:  # noqa: BLE001 - raised by whoever asks, in all processes
        return None, error


def _told(error: Exception | None) -> SelfCorrectError | None:
    """What the other processes are told of an error here: what is none of ours may not be picklable."""
    if error is None or isinstance(error, SelfCorrectError):
        return error
    return TrainingError(f"{name()} failed: {type(error).__name__}: {error}")


def shared(items: Sequence[Thing]) -> list[Thing]:
    """Those of `items` that are this process's: every n-th."""
    return list(items[rank() :: count()])


def places_here(keys: Sequence[object]) -> list[int]:
    """Which places of `keys` are this process's: those with equal keys go to one process, different ones by turns."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [place for place, key in enumerate(keys) if numbers[key] % count() == rank()]


def joined(shares: Sequence[Sequence[Thing]]) -> list[Thing]:
    """The items whose shares these are, in the order of `shared`."""
    longest = max(map(len, shares), default=0)
    return [share[place] for place in range(longest) for share in shares if place < len(share)]


# The end.


def is_first_to_tell() -> bool:
    """Whether no other process has told why the run ended. What ends several processes is told once: the first one
    says it, and what the others say then follows from that.

    Before the processes have met, what fails fails in all of them, as they were started by the same command: the first
    of every machine tells.
    """
    if count() == 1:
        return True
    store = _store()
    if store is None:
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return int(store.add(_TOLD, 1)) == 1
    except RuntimeError:  # the store went with the process or launcher that kept it: nobody else can be asked
        return True


def lost_process(error: BaseException) -> bool:
    """Whether `error` is what torch raises when another process is gone."""
    return count() > 1 and isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST)


def _store() -> Any:
    """The key-value store through which the processes have met; None before."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return None
    from torch.distributed.distributed_c10d import _get_default_store

    return _get_default_store()
