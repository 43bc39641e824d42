"""What a PPO step takes of a GPU's memory at most, computed and not measured: torch's fake tensors have shapes, dtypes
and lifetimes, and no numbers, so that a model of 1.4 B parameters is updated on any machine in a minute.

    python benchmarks/step_memory.py               # the models and loads of benchmarks/gpu.py
    python benchmarks/step_memory.py --size 125m   # one of them

One process, a step after the first (Adam's moments are there): forward and backward passes by the trainer's own scoring
and loss over all rows of a pass, all of full length, then torch's fused AdamW. Counted is every storage from its making
to its end, in blocks of 512 bytes as torch's allocator cuts them. What the count lacks: what playing left (caches are
freed before the update; captured graphs and slots of `policy.decoding: static` are not), cuBLAS's workspaces, the CUDA
context, and what the allocator cannot use again because it lies in pieces.

The passes run as on a CPU, whose attention keeps what that of a GPU keeps; of TRL's head the tiles are counted and the
kernels over them, which on a GPU need no room, are left out.
"""

import argparse
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from gpu_bench import SIZES, Size
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import LlamaConfig, LlamaForCausalLM
from trl.kernels import chunked_logprob
from trl.trainer.utils import add_fused_lm_head

from selfcorrect.training.ppo import scoring
from selfcorrect.training.ppo.loss import TokenBatch, ppo_loss
from selfcorrect.training.ppo.precision import StochasticAdamW
from selfcorrect.training.ppo.trl_options import checkpointing_argument

GIB = 2**30
BLOCK = 512
PROMPT = 16
"""Tokens of an episode that are not sampled: of the problem, and of the words that ask again."""


@dataclass(frozen=True)
class Way:
    """How a step is made."""

    name: str
    lora: bool = False
    checkpointing: bool = False
    whole_logits: bool = False
    pure_bf16: bool = False


WAYS = [
    Way("all weights"),
    Way("all weights, checkpointing", checkpointing=True),
    Way("all weights, whole logits", whole_logits=True),
    Way("pure_bf16", pure_bf16=True),
    Way("LoRA", lora=True),
    Way("LoRA, checkpointing", lora=True, checkpointing=True),
    Way("LoRA, whole logits", lora=True, whole_logits=True),
]


class Live(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of all storages that live, from when an operation makes them until nobody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._seen: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return made

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        self._seen[storage] = size
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.bytes -= size


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Rows of one length in one pass, as `pieces` would have them; and tiles of logits that kernels work on in place,
    as Triton's do."""
    whole = lambda mask_RC, **_: [
        scoring.Piece(torch.arange(len(mask_RC)).unsqueeze(1), torch.arange(mask_RC.size(1)).expand_as(mask_RC))
    ]
    nothing = lambda *_, **__: None
    with ExitStack() as held:
        held.enter_context(mock.patch.object(scoring, "pieces", whole))
        for kernel in ("_forward_tile", "_backward_tile", "_addmm_fp32"):
            held.enter_context(mock.patch.object(chunked_logprob, kernel, nothing))
        yield


def model_of(size: Size, way: Way) -> Any:
    """What learns, as `prepare_weights` and PEFT leave it, in fake memory."""
    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.hidden, intermediate_size=size.inner, tie_word_embeddings=True,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.key_heads,
    )  # fmt: skip
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config).to(torch.bfloat16 if way.lora or way.pure_bf16 else torch.float32)
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        if way.lora:
            from peft import LoraConfig, get_peft_model

            chosen = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(model, chosen)
    if way.checkpointing:
        kept = {"use_reentrant": False, "preserve_rng_state": False}
        getattr(model, f"{checkpointing_argument()}_enable")(kept)
        model.enable_input_require_grads()
    return model.train()


def placed(model: Any) -> Any:
    """`model` with parameters and buffers that count, in the place of those without memory."""
    made: dict[Tensor, Tensor] = {}  # tied ones are one
    for part in model.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = made.setdefault(tensor, like(tensor))
    return model


def like(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def peak_of(size: Size, way: Way) -> tuple[int, int]:
    """Bytes before the update, and at most while it runs."""
    model, reference = model_of(size, way), None if way.lora else model_of(size, way).requires_grad_(False)
    with FakeTensorMode(), Live() as live, as_on_a_gpu():
        placed(model)
        if reference is not None:
            placed(reference)
        optimiser = optimiser_of(model, way)
        with_gradients(optimiser).step()
        optimiser.zero_grad()
        held, live.peak = live.bytes, live.bytes
        with_gradients(optimiser)  # of the passes before
        one_pass(model, size, way).backward()
        optimiser.step()
        return held, live.peak


def with_gradients(optimiser: Any) -> Any:
    """As a pass leaves them."""
    for parameter in optimiser.param_groups[0]["params"]:
        parameter.grad = torch.zeros_like(parameter)
    return optimiser


def optimiser_of(model: Any, way: Way) -> Any:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return (
        StochasticAdamW(learning, 1e-6, betas=(0.9, 0.95))
        if way.pure_bf16
        else torch.optim.AdamW(learning, lr=1e-6, fused=True)
    )


def one_pass(model: Any, size: Size, way: Way) -> Tensor:
    """The loss of the rows of one backward pass."""
    rows, length = size.episodes // 2 // size.slices, PROMPT + 2 * size.tokens
    ids_RC = torch.ones(rows, length, dtype=torch.long)
    autocast = lambda: torch.autocast("cpu", torch.bfloat16)
    if way.whole_logits:
        with autocast():
            logits = model(input_ids=ids_RC, use_cache=False).logits[:, :-1].float()
        return logits.log_softmax(-1).gather(-1, ids_RC[:, 1:, None]).mean()
    logprobs_RT, entropies_RT = scoring.completion_logprobs(
        model, ids_RC, torch.ones_like(ids_RC), length - 8, autocast=autocast, positions=False, with_entropy=True
    )
    old_RT, ones_RT = logprobs_RT.detach().clone(), torch.ones_like(logprobs_RT)
    batch = TokenBatch(old_RT, old_RT.clone(), ones_RT, ones_RT.clone(), ones_RT.clone(), 1.0, ones_RT.clone())
    return ppo_loss(logprobs_RT, batch, entropies_BT=entropies_RT).total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, action="append", help="default: 125m and 1.4b")
    parser.add_argument("--slices", type=int, help="backward passes of a step; default: that of the size")
    arguments = parser.parse_args()
    print(f"{'size':8}{'way':32}{'rows a pass':>12}{'before, GiB':>14}{'peak, GiB':>14}")
    for name in arguments.size or ("125m", "1.4b"):
        size = replace(SIZES[name], slices=arguments.slices or SIZES[name].slices)
        for way in WAYS:
            held, peak = peak_of(size, way)
            rows = size.episodes // 2 // size.slices
            print(f"{name:8}{way.name:32}{rows:>12}{held / GIB:>14.1f}{peak / GIB:>14.1f}", flush=True)


if __name__ == "__main__":
    main()
