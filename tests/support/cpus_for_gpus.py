"""`selfcorrect` in a process whose accelerate takes the processor for an accelerator: FSDP2 and DeepSpeed divide
weights over processes of one machine without any GPU. Only accelerate is deceived, and told that nobody asked for a
CPU; everything of ours runs as it is. What is divided is told on stderr.

torchrun --nproc_per_node 2 cpus_for_gpus.py train score ...
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import torch.distributed
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed import fsdp

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.cli import main


def told(by: str, divides: Callable[..., Any]) -> Callable[..., Any]:
    """`divides`, which tells what it is given."""

    def divided(*module: Any, **how: Any) -> Any:
        what = how.get("model", module[0] if module else None)
        print(f"divided by {by}: {type(what).__name__}", file=sys.stderr)
        return divides(*module, **how)

    return divided


def deceive() -> None:
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")

    def gloo_as_if_nccl(self: Any, *_: Any, **__: Any) -> tuple[str, DistributedType]:
        return "gloo", DistributedType.MULTI_GPU

    fsdp.fully_shard = told("fsdp2", fsdp.fully_shard)
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        import deepspeed

        # sums in shared memory, by what would have to be compiled: minutes
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
        stage = os.environ["ACCELERATE_DEEPSPEED_ZERO_STAGE"]
        deepspeed.initialize = told(f"zero{stage}", deepspeed.initialize)
    PartialState._prepare_backend = gloo_as_if_nccl
    TransformersPolicy.on_cpu = property(lambda self: False)  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    deceive()
    main()
