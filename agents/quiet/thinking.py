"""How a model thinks: what is decided before any training, and saved with the model in its
folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from selfcorrect.bars import no_unseen_bars
from selfcorrect.errors import ConfigurationError, PolicyError

# The tokens that a thought begins and ends with, and the embeddings they start from.

START, END, PAUSE = "<|startofthought|>", "<|endofthought|>", "<|pause|>"
DASHES = ("—", "---", "-")
"""What a mark starts out as: the em dash, which in written language sets a thought apart; else what typewriters put
for it."""


class Marks(nn.Module):
    """Learnable embeddings (R, D) of the marks, apart from the model's own table: its output never has to choose them.

    Args:
        initial: (R, D), the embeddings to start from.
        gradient_weight: how much faster than other parameters they learn. What is stored is the embedding divided by
            this, so its gradient is this much larger *and* an optimiser that ignores the size of gradients (Adam) moves
            the embedding this much further; a factor on the gradient alone would change nothing there.
    """

    def __init__(self, initial: Tensor, *, gradient_weight: float = 1.0) -> None:
        super().__init__()
        self.gradient_weight = gradient_weight
        self.stored = nn.Parameter(initial.detach().clone().float() / gradient_weight)

    def forward(self) -> Tensor:
        """The embeddings (R, D)."""
        return self.stored * self.gradient_weight


def add_tokens(tokenizer: Any, names: Sequence[str]) -> list[int]:
    """Add `names` to the tokenizer as special tokens; their ids.

    The model's vocabulary does not grow: these ids lie beyond it (or in its unused rows) and are looked up in `Marks`.

    Raises:
        PolicyError: the tokenizer has one of them already.
    """
    present = [name for name in names if name in tokenizer.get_vocab()]
    if present:
        raise PolicyError(
            f"the tokenizer already has {', '.join(present)}: a model that was trained to think is opened with "
            "QuietModel.load, not wrapped again; if the tokens mean something else there, choose other names with "
            "`names`"
        )
    tokenizer.add_tokens(list(names), special_tokens=True)
    return [int(number) for number in tokenizer.convert_tokens_to_ids(list(names))]


def like(tokenizer: Any, table: Tensor, text: str | None) -> Tensor:
    """The embedding (D,) that a mark starts from.

    Args:
        tokenizer: of the model.
        table: (V, D), the model's embeddings.
        text: the mean of this text's tokens; None takes the first of `DASHES` that the tokenizer knows, or the mean of
            all embeddings where it knows none.

    Raises:
        PolicyError: the tokenizer does not know `text`.
    """
    for candidate in DASHES if text is None else (text,):
        ids = tokenizer.encode(candidate, add_special_tokens=False)
        if ids and (tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids):
            return table[torch.tensor(ids, device=table.device)].float().mean(0)
    if text is not None:
        raise PolicyError(f"a mark of thought cannot start as {text!r}: the tokenizer does not know it")
    return table.float().mean(0)


def unthinkable(tokenizer: Any, never: Sequence[str]) -> list[int]:
    """The ids that thoughts must not hold: the end of text, after which nothing was ever learnt, and those of `never`.

    Raises:
        PolicyError: one of `never` is no single token.
    """
    found = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    for text in never:
        ids = tokenizer.encode(text, add_special_tokens=False)
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise PolicyError(f"thoughts cannot be kept from holding {text!r}: it is no single token of the tokenizer")
        found.append(int(ids[0]))
    return found


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model thinks.

    Attributes:
        tokens: of a thought, without its marks.
        kind: "thought" writes tokens of its own; "pause" reads as many pause tokens instead (Goyal et al. 2023, arXiv
            2310.02226), the marks' places included: the same computation, with nothing to say.
        names: of the start and end tokens, or of the pause token; None are the usual ones.
        like: texts whose embeddings the marks start from; None takes a dash (see `marks.like`).
        never: tokens that a thought does not hold, besides marks and the end of text; such as what its end mark starts
            from.
        gradient_weight: of the marks' embeddings; see `Marks`.
        initial_weight: of every thought in the mixture, before training; in (0, 1).
    """

    tokens: int = 8
    kind: Literal["thought", "pause"] = "thought"
    names: tuple[str, ...] | None = None
    like: tuple[str, ...] | None = None
    never: tuple[str, ...] = ()
    gradient_weight: float = 1.0
    initial_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigurationError(f"a thought has at least 1 token, got {self.tokens}")
        if not 0 < self.initial_weight < 1:
            raise ConfigurationError(f"initial_weight must lie between 0 and 1, got {self.initial_weight}")
        if not self.gradient_weight > 0:
            raise ConfigurationError(f"gradient_weight must be more than 0, got {self.gradient_weight}")
        for what, given in (("names", self.names), ("like", self.like)):
            if given is not None and len(given) != self.marks:
                raise ConfigurationError(f"{what} of a {self.kind} are {self.marks}, got {given}")

    @property
    def marks(self) -> int:
        return 2 if self.kind == "thought" else 1

    @property
    def overhead(self) -> int:
        """Tokens that a stream reads before it predicts: the thought and its marks."""
        return self.tokens + 2

    @property
    def mark_names(self) -> tuple[str, ...]:
        return self.names or ((START, END) if self.kind == "thought" else (PAUSE,))


# The folder: a saved transformers model, `quiet.json` and `quiet.safetensors` beside it.


SETTINGS, WEIGHTS = "quiet.json", "quiet.safetensors"


def is_quiet_folder(folder: Path) -> bool:
    """Whether `folder` holds a model that thinks."""
    return (Path(folder) / SETTINGS).is_file()


@no_unseen_bars()
def open_model(path_or_id: Path | str) -> tuple[Any, Any]:
    """A causal language model in float32 and its tokenizer. Raises a PolicyError if they cannot be loaded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if isinstance(path_or_id, Path) and not (path_or_id / "config.json").is_file():
        raise PolicyError(f"{path_or_id} holds no saved transformers model: there is no config.json in it")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path_or_id)
        model = AutoModelForCausalLM.from_pretrained(path_or_id, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot load model and tokenizer from {str(path_or_id)!r}: {error}") from error
    return model.eval(), tokenizer


def write_extras(folder: Path, thinking: Thinking, weights: Mapping[str, Tensor]) -> None:
    """Write how the model thinks, and the weights that thinking needs."""
    from safetensors.torch import save_file

    (folder / SETTINGS).write_text(json.dumps(asdict(thinking), indent=2) + "\n", encoding="utf-8")
    save_file({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}, folder / WEIGHTS)


def read_extras(folder: Path) -> tuple[Thinking, dict[str, Tensor]]:
    """What `write_extras` wrote. Raises a PolicyError if it is not there or cannot be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_quiet_folder(folder):
        raise PolicyError(
            f"{folder} holds no model that thinks ({SETTINGS} is missing); make one with `selfcorrect train "
            "quiet-star`, or open the folder as a plain model with TransformersPolicy"
        )
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return Thinking(**options), load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise PolicyError(f"{folder} cannot be read as a model that thinks: {error}") from error
