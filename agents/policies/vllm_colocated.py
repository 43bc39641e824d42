"""A model that learns in this process while a vLLM engine beside it, in the same process, writes its turns."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfcorrect.agents.decoding.engine import Decoded, Request
from selfcorrect.agents.policies.vllm_training import PROBED, EnginePolicy, has_adapter
from selfcorrect.errors import PolicyError


class VLLMColocatedPolicy(EnginePolicy):
    """A `TransformersPolicy` whose turns a vLLM engine in this process writes, on the same device.

    Args:
        model, tokenizer, options: see `TransformersPolicy`.
        llm: a `vllm.LLM` of that very model; see `open_llm`.
        adapters: what learns will be an adapter; else all weights go over after every update.
    """

    engine = "vllm-colocate"
    where = "the engine in this process"

    def __init__(self, model: Any, tokenizer: Any, *, llm: Any, adapters: bool = False, **options: Any) -> None:
        super().__init__(model, tokenizer, adapters=adapters, folder=None, **options)
        self._llm = llm
        self._loras: dict[str, Any] = {}

    def _decode_all(self, requests: Sequence[Request]) -> list[Decoded]:
        """Those that draw without replacement, by a schema, or tell their tokens are decoded by transformers."""
        here = [request.drawn is not None or request.guide is not None or _is_told(request) for request in requests]
        decoded = iter(super()._decode_all([request for request, mine in zip(requests, here, strict=True) if mine]))
        with self._held.asked(self.model, None) as name:
            theirs = [request for request, mine in zip(requests, here, strict=True) if not mine]
            drawn = iter(self._generated(theirs, self._loras.get(name)))
        return [next(decoded) if mine else next(drawn) for mine in here]

    def _generated(self, requests: Sequence[Request], adapter: Any) -> list[Decoded]:
        if not requests:
            return []
        from vllm import SamplingParams

        params = [
            SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                max_tokens=request.max_new_tokens,
                stop=list(request.stop),
                stop_token_ids=list(self._eos_ids),
                logprobs=0,
                skip_special_tokens=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt_ids)} for request in requests]
        outputs = self._llm.generate(prompts, params, lora_request=adapter, use_tqdm=False)
        return [_decoded(output.outputs[0]) for output in outputs]

    def _give(self) -> str:
        if has_adapter(self.model):
            return self._handover.adapter(self.model, self)
        if not self._adapters:
            weights = ((name, weight.detach()) for name, weight in self.model.named_parameters())
            self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
            self._llm.apply_model(_pack_tied_head)
            self._llm.reset_prefix_cache()
        probe = Request(self.probe, PROBED, temperature=0.0, top_p=1.0, seed=0)
        found = self._generated([probe], None)[0]
        self.refuse_other_weights(found.ids, found.logprobs)
        return "base"

    def load_adapter(self, name: str, folder: Path) -> None:
        """See `Adapters`."""
        from vllm.lora.request import LoRARequest

        number = int(name.rpartition("-")[2])  # by which vLLM tells adapters apart
        self._loras[name] = LoRARequest(name, number, str(folder))

    def unload_adapter(self, name: str) -> None:
        """See `Adapters`."""
        self._llm.llm_engine.remove_lora(self._loras.pop(name).lora_int_id)


def _is_told(request: Request) -> bool:
    return request.ticket is not None and request.ticket.tell is not None


def _decoded(output: Any) -> Decoded:
    ids = list(output.token_ids)
    logprobs = [float(found[token].logprob) for found, token in zip(output.logprobs, ids, strict=True)]
    return Decoded(ids, logprobs, output.finish_reason != "length")


def _pack_tied_head(model: Any) -> None:
    """vLLM packs weights for CPUs as they are loaded; a head that is tied to the embeddings is not loaded, and would
    keep what was packed at the start."""
    head = getattr(model, "lm_head", None)
    if head is not None and next(model.parameters()).device.type == "cpu" and hasattr(head, "quant_method"):
        head.quant_method.process_weights_after_loading(head)


def open_llm(model: str, *, dtype: str, lora_rank: int | None, **options: Any) -> Any:
    """A `vllm.LLM` for `VLLMColocatedPolicy`.

    Args:
        model: folder or Hugging Face id.
        dtype: what it computes in.
        lora_rank: of the adapters it will be given; None is none.
        **options: of `vllm.LLM`.

    Raises:
        PolicyError: vLLM is not installed.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # weights are handed over within one process
    try:
        from vllm import LLM
    except ImportError as error:
        raise PolicyError(f"policy.engine vllm-colocate needs vLLM: pip install vllm ({error})") from error
    adapters = {} if lora_rank is None else {"enable_lora": True, "max_lora_rank": _rank_of_engine(lora_rank)}
    return LLM(
        model=model, dtype=dtype, logprobs_mode="processed_logprobs", disable_log_stats=True, **adapters, **options
    )


_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM makes room for."""


def _rank_of_engine(rank: int) -> int:
    room = next((size for size in _RANKS if size >= rank), None)
    if room is None:
        raise PolicyError(f"policy.lora.rank {rank} is more than vLLM takes, {_RANKS[-1]}")
    return room
