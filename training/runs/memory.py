"""What a run will need, before anything is loaded, against what the machine has.

Weights, gradients, moments of Adam and the reference are counted from the model's config; they are needed for certain.
Caches and activations are estimated: from the settings, with prompts taken to be as long as `_PROMPT` tokens a turn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from selfcorrect.agents.policies.pretrained import free_bytes, parameter_count, weightless
from selfcorrect.devices import choose_device, choose_dtype
from selfcorrect.errors import TrainingError
from selfcorrect.training.passes import rows_of_a_pass
from selfcorrect.training.runs.opening import chosen_lora
from selfcorrect.training.runs.progress import ProgressSink
from selfcorrect.training.settings import GIVEN, LoraSettings, RunSettings, SupervisedSettings

_PROMPT = 128
"""Tokens of the prompt of a turn, where nobody knows."""
_AT_ONCE = 256
"""Rows that a policy decodes at a time."""
_ACTIVATIONS_PER_HIDDEN = 34
"""Bytes of 16-bit activations for each token, layer and unit of the hidden state, attention's matrix never made
(Korthikanti et al. 2022, arXiv 2205.05198, Eq. 2 without its last term)."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes, by what they are for.

    Attributes:
        certain: counted from the model's config.
        likely: estimated.
    """

    certain: dict[str, int]
    likely: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.certain.values()) + sum(self.likely.values())

    def words(self) -> str:
        """ "about 21.0 GB (weights 6.2, gradients ...)"."""
        parts = {**self.certain, **self.likely}
        listed = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items() if size >= 5e7)
        return f"about {self.total / 1e9:.1f} GB" + (f" ({listed})" if listed else "")


@dataclass(frozen=True, slots=True)
class Load:
    """What an arm keeps and computes beside the weights that it trains.

    Attributes:
        references: further whole models in the same place: the KL reference, DPO's.
        rows: of one forward and backward pass.
        drawn: rows that are decoded at once.
        learns: weights do; a head on a frozen body counts for nothing.
    """

    references: int
    rows: int
    drawn: int
    learns: bool = True


def reinforced_load(settings: RunSettings) -> Load:
    """Per-turn PPO's; under adapters the base is the reference."""
    optimiser = settings.optimiser
    references = int(chosen_lora(settings.policy) is None and optimiser.kl)
    rows = max(1, optimiser.episodes_per_step // (optimiser.minibatches * optimiser.gradient_accumulation))
    return Load(references, rows, min(_AT_ONCE, optimiser.episodes_per_step))


def supervised_load(group: SupervisedSettings) -> Load:
    """That of STaR, Pair-SFT and SFT: they sample with one model and fine-tune another."""
    rows = rows_of_a_pass(group.batch_size, group.micro_batch)
    return Load(1, rows, min(_AT_ONCE, group.problems * group.samples_per_problem))


def vstar_load(settings: RunSettings) -> Load:
    """That of V-STaR's widest fit, beside the policy: DPO reads two answers a pair, and has a reference, which under
    adapters is the base."""
    vstar, dpo = settings.vstar, "likelihood" in settings.vstar.kinds
    heads = [fit for kind in vstar.kinds if (fit := getattr(vstar, kind)) is not vstar.likelihood]
    fits = [(1, fit) for fit in heads if fit.body != "frozen"]
    fits += [(1, vstar.generator)] * bool(vstar.rounds) + [(2, vstar.likelihood)] * dpo
    rows = [answers * rows_of_a_pass(fit.batch, fit.micro_batch) for answers, fit in fits]
    references = 2 if dpo and chosen_lora(settings.policy) is None else 1
    return Load(references, max(rows, default=0), 0 if vstar.asked else _AT_ONCE, learns=bool(rows))


def memory_estimate(settings: RunSettings, load: Load | None = None) -> MemoryEstimate:
    """What training `settings` needs on the device that they choose; `load` is that of the reinforced arms by default.

    Raises:
        PolicyError: the model has no config that can be read.
        ConfigurationError: the device is not there, or lacks the dtype.
    """
    model = weightless(settings.policy.model)
    load = load or reinforced_load(settings)
    lora, optimiser = chosen_lora(settings.policy), settings.optimiser
    computes = choose_dtype(settings.policy.dtype, choose_device(settings.policy.device)) or torch.float32
    kept = computes if lora is not None or optimiser.pure_bf16 else torch.float32
    parameters = parameter_count(settings.policy.model)
    trained = (parameters if lora is None else adapter_parameters(model, lora)) if load.learns else 0
    certain = {
        "weights": parameters * kept.itemsize,
        "adapters": 0 if lora is None else trained * 4,
        "gradients": trained * (2 if optimiser.pure_bf16 else 4),
        "moments of Adam": trained * 8,
        "reference": load.references * parameters * kept.itemsize,
    }
    return MemoryEstimate(certain, _likely(settings, load, model.config.get_text_config(), computes.itemsize))


def adapter_parameters(model: Any, lora: LoraSettings) -> int:
    """Parameters of adapters on `model`: rank x (inputs + outputs) of each layer that gets one."""
    head = model.get_output_embeddings()
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and _adapted(name, lora)
    ]
    return sum(lora.rank * (layer.in_features + layer.out_features) for layer in layers)


def _adapted(name: str, lora: LoraSettings) -> bool:
    return lora.target_modules == "all-linear" or name.rpartition(".")[2] in lora.target_modules


def _likely(settings: RunSettings, load: Load, config: Any, itemsize: int) -> dict[str, int]:
    optimiser, turns = settings.optimiser, 1 + settings.graph.revisions
    tokens = turns * (_PROMPT + (settings.policy.max_new_tokens or 512))
    layers, hidden, heads = config.num_hidden_layers, config.hidden_size, config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or hidden // heads
    cached = 2 * layers * (getattr(config, "num_key_value_heads", None) or heads) * head_size * itemsize
    per_layer = _ACTIVATIONS_PER_HIDDEN * hidden * itemsize // 2
    kept = (
        (2 * hidden * layers * itemsize // 2 + per_layer) if optimiser.activation_checkpointing else per_layer * layers
    )
    return {
        "caches": load.drawn * tokens * cached,
        "activations": load.rows * tokens * kept,
        "logits": 3 * load.drawn * int(config.vocab_size) * 4,
    }


def refuse_too_large(
    settings: RunSettings,
    progress: ProgressSink,
    load: Load | None = None,
    *,
    advice: Sequence[str] | None = None,
) -> None:
    """Tell that a run will hardly fit into the memory; refuse one that cannot. A policy that was given has its place
    already.

    Args:
        settings: the run's.
        progress: told of what may not fit.
        load: the arm's, if it is not a reinforced one.
        advice: that arm's settings that need less memory.

    Raises:
        TrainingError: what is needed for certain is more than is free.
    """
    if settings.policy.model == GIVEN:
        return
    device = choose_device(settings.policy.device)
    free = free_bytes(device)
    if free is None:
        return
    needed = memory_estimate(settings, load)
    smaller = _advice(settings) if advice is None else ", ".join(advice)
    told = f"training needs {needed.words()}, and {free / 1e9:.1f} GB are free on {device}"
    if sum(needed.certain.values()) > free:
        raise TrainingError(f"{told}: try {smaller}, or a smaller model")
    if needed.total > free:
        progress.message(f"{told}: if it does not fit, try {smaller}")


def _advice(settings: RunSettings) -> str:
    optimiser, advice = settings.optimiser, []
    if chosen_lora(settings.policy) is None:
        advice += ["policy.lora", *([] if optimiser.pure_bf16 else ["optimiser.pure_bf16"])]
    if not optimiser.activation_checkpointing:
        advice.append("optimiser.activation_checkpointing")
    return ", ".join([*advice, "more optimiser.gradient_accumulation", "a smaller optimiser.problems_per_step"])
