"""`selfcorrect` in a process whose accelerate takes the processor for an accelerator: FSDP2 and DeepSpeed divide
weights over processes of one machine without any GPU. Only accelerate is deceived, and told that nobody asked for a
CPU; everything of ours runs as it is. What FSDP2 divides is told on stderr.

torchrun --nproc_per_node 2 cpus_for_gpus.py train score ...
"""

import os
import sys
from typing import Any

import torch.distributed
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed import fsdp

from selfcorrect.agents.policies.transformers import TransformersPolicy
from selfcorrect.cli import main


def deceive() -> None:
    os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    torch.distributed.init_process_group("gloo")

    def gloo_as_if_nccl(self: Any, *_: Any, **__: Any) -> tuple[str, DistributedType]:
        return "gloo", DistributedType.MULTI_GPU

    divides = fsdp.fully_shard

    def divided(module: Any, **how: Any) -> Any:
        print(f"divided: {type(module).__name__}", file=sys.stderr)
        return divides(module, **how)

    fsdp.fully_shard = divided
    PartialState._prepare_backend = gloo_as_if_nccl
    TransformersPolicy.on_cpu = property(lambda self: False)  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    deceive()
    main()
