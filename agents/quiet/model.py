"""A causal language model that can think: the model itself, the marks of thought, the mixing head."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfcorrect.agents.quiet.streams import Reading, Streams, use_thought_attention
from selfcorrect.agents.quiet.thinking import (
    Marks,
    Thinking,
    add_tokens,
    like,
    open_model,
    read_extras,
    unthinkable,
    write_extras,
)
from selfcorrect.errors import PolicyError

# How much a thought has to say: the mixing head, and the mixture.


class MixingHead(nn.Module):
    """One weight in (0, 1) for each thought, from the hidden states before and after it: a ReLU network of three
    layers.

    0 is the prediction without the thought, 1 that with it. (The paper's w weighs the other side.) The last layer
    begins with zeros, so that every weight begins as `initial`.
    """

    def __init__(self, hidden: int, *, initial: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, math.log(initial / (1 - initial)))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Weights (...) from hidden states (..., D) at the position and at the end of its thought."""
        states = torch.cat([before, after], dim=-1).to(next(self.layers.parameters()).dtype)
        return torch.sigmoid(self.layers(states)[..., 0])


def mixed_logits(base: Tensor, thought: Tensor, weight: Tensor) -> Tensor:
    """Logits (..., V) of the mixture: log p = (1 - w) log p_base + w log p_thought, up to a constant.

    Arxiv 2403.09629, section 4.3. The constants that make the parts log-probabilities do not matter before a softmax,
    so logits are mixed as they are; softmax makes the mixture a distribution, which the sum of the paper's equation
    alone is not.

    Args:
        base: logits without the thought, (..., V).
        thought: logits after it, (..., V).
        weight: of the thought, (...).
    """
    return base + weight[..., None].to(base.dtype) * (thought - base)


# How the tokens of thoughts are drawn.

Chooser = Callable[[Tensor, int], Tensor]
"""(logits (B, S, V), number of the thought's token) -> tokens (B, S)."""


def greedily(logits_BSV: Tensor, step: int) -> Tensor:
    """The likeliest token."""
    return logits_BSV.argmax(dim=-1)


def sampled(generator: torch.Generator | None = None) -> Chooser:
    """Draws at temperature 1, the one at which log-probabilities of thoughts are taken."""

    def choose(logits_BSV: Tensor, step: int) -> Tensor:
        probabilities = torch.softmax(logits_BSV.detach().float(), dim=-1)
        return torch.multinomial(probabilities.flatten(0, 1), 1, generator=generator).view(logits_BSV.shape[:2])

    return choose


def given(thoughts_BSM: Tensor) -> Chooser:
    """The thoughts that were written before: to score them, or to compare with another implementation."""

    def choose(logits_BSV: Tensor, step: int) -> Tensor:
        return thoughts_BSM[:, :, step]

    return choose


@dataclass(slots=True)
class Thoughts:
    """What S streams thought, and what they then expect.

    Attributes:
        ids_BSM: the thoughts' tokens; M is 0 for pauses.
        logprob_BS: of each thought, with gradient; 0 for pauses.
        weight_BS: of each thought in the mixture, with gradient.
        logits_BNSV: what follows after the thought and n of the true tokens.
    """

    ids_BSM: Tensor
    logprob_BS: Tensor
    weight_BS: Tensor
    logits_BNSV: Tensor


class QuietModel(nn.Module):
    """A causal language model of transformers, with what it needs to think before each token. Made by `wrap` or `load`.

    Attributes:
        lm: the model, which stays the caller's; its attention function was exchanged for one that knows streams.
        tokenizer: its tokenizer, the marks' tokens included.
        thinking: how it thinks.
        marks: the embeddings of the marks.
        mixing: the mixing head.
        mark_ids: the ids of the marks' tokens.
    """

    def __init__(self, lm: Any, tokenizer: Any, thinking: Thinking, initial_RD: Tensor) -> None:
        super().__init__()
        self.lm, self.tokenizer, self.thinking = lm, tokenizer, thinking
        self.mark_ids = [int(number) for number in tokenizer.convert_tokens_to_ids(list(thinking.mark_names))]
        self._never_thought = sorted({*self.mark_ids, *unthinkable(tokenizer, thinking.never)})
        self.marks = Marks(initial_RD, gradient_weight=thinking.gradient_weight).to(initial_RD.device)
        self.mixing = MixingHead(initial_RD.shape[1], initial=thinking.initial_weight).to(initial_RD.device)

    @classmethod
    def wrap(cls, lm: Any, tokenizer: Any, thinking: Thinking) -> "QuietModel":
        """A model that has not thought before; the tokenizer gets the marks' tokens added.

        Raises:
            PolicyError: the model's family cannot read thoughts in parallel; the tokenizer has the marks' tokens
                already.
        """
        use_thought_attention(lm)
        table = lm.get_input_embeddings().weight.detach()
        texts = thinking.like or (None,) * thinking.marks
        initial_RD = torch.stack([like(tokenizer, table, text) for text in texts])
        add_tokens(tokenizer, thinking.mark_names)
        return cls(lm, tokenizer, thinking, initial_RD)

    @classmethod
    def load(cls, folder: Path) -> "QuietModel":
        """The model that `save` wrote.

        Raises:
            PolicyError: the folder holds none, or one that cannot be read.
        """
        lm, tokenizer = open_model(folder)
        use_thought_attention(lm)
        thinking, weights = read_extras(folder)
        size = lm.get_input_embeddings().weight.shape[1]
        model = cls(lm, tokenizer, thinking, torch.zeros(thinking.marks, size))
        wanted = {name: weight.shape for name, weight in model._extras().items()}
        if wanted != {name: weight.shape for name, weight in weights.items()}:
            raise PolicyError(f"{folder}: the marks and mixing head there are not those of the model beside them")
        model.load_state_dict(weights, strict=False)
        return model.eval()

    def save(self, folder: Path) -> None:
        """Write everything to `folder`. The model alone, without thoughts, loads from there with
        AutoModelForCausalLM."""
        self.lm.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_extras(folder, self.thinking, self._extras())

    def _extras(self) -> dict[str, Tensor]:
        """The weights that are not the language model's."""
        return {name: weight for name, weight in self.state_dict().items() if not name.startswith("lm.")}

    def think(
        self, reading: Reading, anchor_BS: Tensor, choose: Chooser, *, ahead: int = 1, straight_through: bool = False
    ) -> Thoughts:
        """Think after the columns `anchor_BS`, then read the true text on; one forward pass for each token of thought.

        Args:
            reading: the texts; its cache holds the streams afterwards.
            anchor_BS: the column each stream follows.
            choose: draws the thoughts' tokens.
            ahead: how many of the text's tokens to predict, N; the first N - 1 are read.
            straight_through: let gradients reach the thoughts' distribution through their embeddings too, as if the
                drawn token were the mean under it (Bengio et al. 2013, arXiv 1308.3432).

        Raises:
            PolicyError: text, thought and tokens ahead do not fit the model's context.
        """
        streams = Streams(self.lm, reading, anchor_BS)
        if self.thinking.kind == "pause":
            thought = self._pauses(anchor_BS)
            ids_BSM, logprob_BS = anchor_BS.new_zeros(*anchor_BS.shape, 0), thought.new_zeros(anchor_BS.shape)
        else:
            ids_BSM, logprob_BS, last = self._write(streams, anchor_BS, choose, straight_through)
            thought = torch.cat([last, self._mark(1, anchor_BS)], dim=1)
        chunk = torch.cat([thought, self._true_tokens(reading, anchor_BS, ahead - 1)], dim=1)
        logits_BLSV, hidden_BLSD = streams.append(chunk)
        before_BSD = reading.hidden_BTD.gather(
            1, _columns(reading, anchor_BS)[..., None].expand(-1, -1, hidden_BLSD.shape[-1])
        )
        weight_BS = self.mixing(before_BSD, hidden_BLSD[:, -ahead])
        return Thoughts(ids_BSM, logprob_BS, weight_BS, logits_BLSV[:, -ahead:])

    def _write(
        self, streams: Streams, anchor_BS: Tensor, choose: Chooser, straight_through: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Thoughts (B, S, M), their log-probabilities (B, S), and the embedding (B, 1, S, D) of their last, unread
        tokens."""
        embedding, ids, logprobs = self._mark(0, anchor_BS), [], []
        for step in range(self.thinking.tokens):
            logits_BLSV, _ = streams.append(embedding)
            logits_BSV = _without(logits_BLSV[:, 0], self._never_thought)
            ids_BS = choose(logits_BSV, step)
            log_p_BSV = torch.log_softmax(logits_BSV.float(), dim=-1)
            logprobs.append(log_p_BSV.gather(2, ids_BS[..., None])[..., 0])
            embedding = self._embed(ids_BS)
            if straight_through:
                mean_BSD = log_p_BSV.exp().to(embedding.dtype) @ self._table()
                embedding = embedding + mean_BSD - mean_BSD.detach()
            embedding = embedding[:, None]
            ids.append(ids_BS)
        return torch.stack(ids, dim=2), torch.stack(logprobs, dim=2).sum(2), embedding

    def _pauses(self, anchor_BS: Tensor) -> Tensor:
        return self._mark(0, anchor_BS).expand(-1, self.thinking.overhead, -1, -1)

    def _mark(self, number: int, anchor_BS: Tensor) -> Tensor:
        """A mark's embedding for every stream, (B, 1, S, D)."""
        mark_D: Tensor = self.marks()[number].to(self._weights().dtype)
        return mark_D.expand(anchor_BS.shape[0], 1, anchor_BS.shape[1], -1)

    def _true_tokens(self, reading: Reading, anchor_BS: Tensor, count: int) -> Tensor:
        """Embeddings (B, count, S, D) of the text after each anchor; past the end of the text, of whatever stands
        there."""
        step_L = torch.arange(1, count + 1, device=anchor_BS.device)
        column_BLS = (anchor_BS[:, None] + step_L[None, :, None]).clamp(max=reading.ids_BT.shape[1] - 1)
        ids_BLS = reading.ids_BT[:, None].expand(-1, count, -1).gather(2, column_BLS)
        return self._embed(ids_BLS)

    def without_marks(self, logits_V: Tensor) -> Tensor:
        """Logits that never choose a mark. Where the model's table has room beyond its vocabulary, their ids lie in
        it."""
        return _without(logits_V, self.mark_ids)

    def _embed(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.lm.get_input_embeddings()(ids)
        return embedded

    def _weights(self) -> Tensor:
        weights: Tensor = self.lm.get_input_embeddings().weight
        return weights

    def _table(self) -> Tensor:
        """All embeddings (V, D) as the model reads them (some families scale them), for as many tokens as it
        predicts."""
        size = self.lm.get_output_embeddings().weight.shape[0]
        return self._embed(torch.arange(size, device=self._weights().device))


def _columns(reading: Reading, anchor_BS: Tensor) -> Tensor:
    """Anchors as columns of `reading.hidden_BTD`, which after `read_on` holds the newest columns only."""
    return anchor_BS - (reading.ids_BT.shape[1] - reading.hidden_BTD.shape[1])


def _without(logits_V: Tensor, ids: Sequence[int]) -> Tensor:
    """Logits that never choose one of `ids`; those beyond the vocabulary cannot be chosen anyway."""
    inside = [number for number in ids if number < logits_V.shape[-1]]
    if not inside:
        return logits_V
    return logits_V.index_fill(-1, torch.tensor(inside, device=logits_V.device), -torch.inf)
