"""Models that are whole where they are loaded, whatever a trainer of this process does with its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def undivided() -> Iterator[None]:
    """Models that are made within have all their weights in this process.

    transformers keeps DeepSpeed's settings for the whole process, from when a trainer's arguments are made for as long
    as its accelerator lives. With ZeRO-3 it divides every model that is loaded meanwhile: those that play a loop after
    the first, or an evaluation after training, and ask no other process for their parts. Whoever trains what is loaded
    here divides it then.
    """
    deepspeed: Any = sys.modules.get("transformers.integrations.deepspeed")
    held = None if deepspeed is None else deepspeed._hf_deepspeed_config_weak_ref
    if held is None:
        yield
        return
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = held
