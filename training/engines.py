"""What is trained, and who plays its episodes: transformers in this process, a vLLM server, vLLM in this process; and
how it is put right that an engine's log-probabilities are not the trainer's.

An engine computes with other kernels, often in another precision, and perhaps (where the next batch is played while
this one is learnt from) with weights of a step ago: it samples from mu, the trainer differentiates pi. Every term of
the loss of a token is an expectation under pi, so each is multiplied by pi / mu, which is cut: truncated (the bias is
small, the variance bounded) or masked (what is too unlikely under pi does not learn).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from selfcorrect.errors import ConfigurationError
from selfcorrect.setting_groups import NonNegative, Positive, Settings
from selfcorrect.training import processes

if TYPE_CHECKING:
    from selfcorrect.agents.policies.transformers import TransformersPolicy


class TransformersEngine(Settings):
    """The model that learns writes its turns itself."""

    kind: Literal["transformers"] = "transformers"


Address = Annotated[str, Field(min_length=1)]


class VLLMEngine(Settings):
    """A vLLM server, which serves the model that is trained; see docs/engines.md for how it is started."""

    kind: Literal["vllm"] = "vllm"
    url: Address | Annotated[list[Address], Field(min_length=1)] = "http://localhost:8000/v1"
    """Of its API; a list is of several that serve the same, of which process r asks number r, and where there are
    fewer than processes begins again. A key, if they want one, stands in the environment variable VLLM_API_KEY."""
    model: str | None = None
    """The name it serves the model by; None is the first one it serves."""
    folder: Path | None = Field(default=None, strict=False)
    """For weights on their way to it, which it must see under the same path; None is a temporary one on this
    machine."""
    concurrency: PositiveInt = 128
    """Requests at a time."""
    max_model_length: PositiveInt | None = None
    """The most tokens of a prompt with its completion; None is what the server says."""
    processed_logprobs: bool = False
    """Whether it was started with `--logprobs-mode processed_logprobs`; optimiser.temperature other than 1 needs it."""

    def asked_by(self, rank: int, processes: int) -> tuple[str, bool]:
        """The address that one of several processes asks, and whether it is the first one there, who gives it the
        weights.

        Raises:
            ConfigurationError: a server is asked by nobody, or stands there twice.
        """
        urls = [self.url] if isinstance(self.url, str) else self.url
        if len(urls) > processes:
            raise ConfigurationError(
                f"policy.engine.url has {len(urls)} servers for {processes} processes, each of which asks one: name "
                f"{processes} at most"
            )
        if len(set(urls)) < len(urls):
            raise ConfigurationError("policy.engine.url names a server twice: name each once, processes take turns")
        return urls[rank % len(urls)], rank < len(urls)


class ColocatedEngine(Settings):
    """vLLM in this process, on the device of the model that is trained."""

    kind: Literal["vllm-colocate"] = "vllm-colocate"
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the GPU's memory that it takes for itself; on a CPU VLLM_CPU_KVCACHE_SPACE says how many GB."""
    max_model_length: PositiveInt | None = None
    """The most tokens of a prompt with its completion; None is the model's own."""
    enforce_eager: bool = False
    """Compile and capture nothing: a slower engine that starts sooner."""


EngineSettings = Annotated[TransformersEngine | VLLMEngine | ColocatedEngine, Field(discriminator="kind")]


class MismatchSettings(Settings):
    """What is done about log-probabilities of the engine that are not the trainer's."""

    by: Literal["truncate", "mask"] = "truncate"
    """"truncate" keeps the ratio trainer / engine within [low, high]; "mask" takes what lies outside out of the
    loss."""
    level: Literal["token", "turn", "sequence"] = "token"
    """Whose ratio: of each token; of a whole turn (the product over its tokens); of all turns of a training row."""
    high: Positive = 2.0
    low: NonNegative = 0.0

    @model_validator(mode="after")
    def _an_interval(self) -> Self:
        if not self.low <= 1 <= self.high:
            raise ValueError(f"low {self.low:g} and high {self.high:g}: equal log-probabilities have the ratio 1")
        return self


class LoraSettings(Settings):
    """Train low-rank adapters (Hu et al. 2021) on a frozen base, which then is the KL reference too."""

    rank: PositiveInt = 16
    """Of the matrices: more can learn more, and takes more memory."""
    alpha: Positive = 32.0
    """The adapters are scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapters' inputs that is left out at random while training."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Which layers get adapters, by name."""


class PolicySettings(Settings):
    """What is trained."""

    model: str = Field(default="embedded", min_length=1)
    """"embedded", "embedded-looks", "smollm2", a folder, a GGUF file, or a Hugging Face model id."""
    template: Literal["auto", "chat", "plain"] = "auto"
    """How messages become text: with the tokenizer's chat template, without, or with it if there is one."""
    max_new_tokens: PositiveInt | None = None
    """Per turn; None leaves it to the policy."""
    lora: LoraSettings | Literal["auto"] | None = "auto"
    """Adapters instead of all weights; "auto" is them for models of more than 500 million parameters; None never."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "mps", ...; "auto" is the accelerator where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What is computed in; "auto" is bfloat16 on accelerators that have it. Weights that are trained are float32."""
    attention: str = Field(default="auto", min_length=1)
    """transformers' implementation of attention: "sdpa", "eager", "flash_attention_2", ...; "auto" is its choice."""
    decoding: Literal["auto", "dynamic", "static"] = "auto"
    """"dynamic": in batches to their end; "static": in one that episodes join and leave; "auto": static on an NVIDIA
    GPU, where it is several times as fast, else dynamic."""
    engine: EngineSettings = TransformersEngine()
    """What plays the episodes of reinforcement learning; see docs/engines.md. `engine: vllm` is short for `kind`."""

    @field_validator("engine", mode="before")
    @classmethod
    def _by_its_kind(cls, given: object) -> object:
        return {"kind": given} if isinstance(given, str) else given


Mismatch = MismatchSettings | Literal["auto"] | None


def correction_of(mismatch: Mismatch, engine: str) -> MismatchSettings | None:
    """What `optimiser.mismatch` means where `engine` plays.

    Raises:
        ConfigurationError: it would have no effect.
    """
    if engine == "transformers":
        if isinstance(mismatch, MismatchSettings):
            raise ConfigurationError(
                "optimiser.mismatch corrects what an engine of its own computes otherwise; with policy.engine "
                "transformers the model that learns has drawn the tokens itself: leave it away"
            )
        return None
    return MismatchSettings() if mismatch == "auto" else mismatch


def refuse_contradictions(engine: Any, policy: Any, optimiser: Any) -> None:
    """Raise a ValueError where settings of `policy` or `optimiser` do not go with `engine`."""
    try:
        correction_of(optimiser.mismatch, engine.kind)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    if engine.kind != "transformers" and policy.decoding != "auto":
        raise ValueError(f"policy.decoding is how transformers decodes, and policy.engine {engine.kind} plays instead")
    if isinstance(engine, VLLMEngine) and optimiser.temperature != 1 and not engine.processed_logprobs:
        raise ValueError(
            f"optimiser.temperature {optimiser.temperature:g}: a vLLM server reports log-probabilities before the "
            "temperature unless it was started with --logprobs-mode processed_logprobs; do so, and say "
            "policy.engine.processed_logprobs: true"
        )


def refuse_engine(engine: EngineSettings, who: str) -> None:
    """Raise a ConfigurationError if another engine than transformers is asked of `who`, which does not use it."""
    if engine.kind != "transformers":
        raise ConfigurationError(
            f"{who} samples with transformers: policy.engine {engine.kind} is for the arms of reinforcement learning"
        )


def on_engine(engine: EngineSettings, location: str, *, lora_rank: int | None, **options: Any) -> "TransformersPolicy":
    """The policy of the model at `location`, played by `engine`.

    Args:
        lora_rank: of the adapter that will be trained; None trains all weights.
        **options: of `TransformersPolicy.from_pretrained`.

    Raises:
        ConfigurationError: the servers do not go with the number of processes.
        PolicyError: the server is not there, or cannot be trained with; vLLM is not installed.
    """
    from selfcorrect.agents.policies.transformers import TransformersPolicy

    if isinstance(engine, TransformersEngine):
        return TransformersPolicy.from_pretrained(location, **options)
    adapters = lora_rank is not None
    if isinstance(engine, VLLMEngine):
        from selfcorrect.agents.policies.vllm_server import VLLMServer
        from selfcorrect.agents.policies.vllm_training import VLLMServedPolicy

        longest, at_once = engine.max_model_length, engine.concurrency
        url, leads = engine.asked_by(processes.rank(), processes.count())
        served: dict[str, Any] = {
            "server": VLLMServer(url, engine.model, concurrency=at_once, max_model_length=longest),
            "leads": leads,
            "processes": processes,
            "concurrency": at_once,
            "folder": engine.folder,
            "processed_logprobs": engine.processed_logprobs,
        }
        return VLLMServedPolicy.from_pretrained(location, adapters=adapters, **served, **options)
    from selfcorrect.agents.policies.vllm_colocated import VLLMColocatedPolicy, open_llm

    computes = options.get("compute_dtype") or options["dtype"]
    llm = open_llm(
        location,
        dtype=str(computes).removeprefix("torch."),
        lora_rank=lora_rank,
        max_model_len=engine.max_model_length,
        gpu_memory_utilization=engine.memory,
        enforce_eager=engine.enforce_eager,
        # each process has an engine of its own, on its own device, which vLLM else takes from the first
        **({} if processes.count() == 1 else {"distributed_executor_backend": "external_launcher"}),
    )
    return VLLMColocatedPolicy.from_pretrained(location, llm=llm, adapters=adapters, **options)
