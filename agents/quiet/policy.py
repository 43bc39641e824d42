"""`QuietPolicy`: a model that thinks, as a policy for graphs, search and evaluation."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from selfcorrect.agents.decoding.batcher import Batcher
from selfcorrect.agents.decoding.engine import Request
from selfcorrect.agents.policies.local_calls import eos_ids
from selfcorrect.agents.policies.pretrained import decoding_attention
from selfcorrect.agents.policies.rendering import (
    TemplateName,
    before_stop,
    choose_template,
    conversation_after,
    prompt_after,
)
from selfcorrect.agents.policy import Sampling
from selfcorrect.agents.quiet.decoding import Continuation, QuietDecoding
from selfcorrect.agents.quiet.model import QuietModel
from selfcorrect.agents.recording import begin_call
from selfcorrect.agents.state import Generation, Message
from selfcorrect.errors import PolicyError, UnreadablePromptError

# What is seen of thinking from outside: tokens with their thoughts, and the cost.


@dataclass(slots=True)
class Cost:
    """What thinking costs, counted over all calls of a policy.

    Attributes:
        visible: tokens that were written.
        read: tokens that the model read to write them: the visible ones, thoughts and marks.
        seconds: of decoding.
    """

    visible: int = 0
    read: int = 0
    seconds: float = 0.0

    @property
    def per_visible_token(self) -> float:
        """Tokens read for each visible one; 1 without thoughts, and 0 before the first call."""
        return self.read / self.visible if self.visible else 0.0

    @property
    def milliseconds_per_visible_token(self) -> float:
        return 1000 * self.seconds / self.visible if self.visible else 0.0


@dataclass(frozen=True, slots=True)
class VisibleToken:
    """A written token, and what was thought before it.

    `weight` is the thought's share in the mixture: 0 ignores it.
    """

    text: str
    thought: str
    weight: float


@dataclass(frozen=True, slots=True)
class _Call:
    messages: Sequence[Message]
    sampling: Sampling
    after: Generation | None


class QuietPolicy:
    """Writes turns with a model that thinks before each token.

    Ids, log-probabilities (given the thought that was drawn) and, by default, the text are those of the visible tokens:
    graphs, checkers and search see no difference to other policies.

    Args:
        model: the model; see `QuietModel.load`.
        template: how messages become text; see `TransformersPolicy`.
        max_new_tokens: the limit of a completion when `Sampling` sets none.
        max_batch: at most this many rows are decoded at a time.
        show_thoughts: write each thought into the text before its token, between its marks. For people: a checker would
            read it.
        in_thread: decode in a thread, which keeps the event loop responsive, rather than on the loop.

    Raises:
        PolicyError: the tokenizer has no EOS token, or the template cannot be had.
    """

    def __init__(
        self,
        model: QuietModel,
        *,
        template: TemplateName = "auto",
        max_new_tokens: int = 512,
        max_batch: int = 256,
        show_thoughts: bool = False,
        in_thread: bool = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = model.tokenizer
        self.max_new_tokens, self.max_batch, self.show_thoughts = max_new_tokens, max_batch, show_thoughts
        self.cost = Cost()
        self.template = choose_template(self.tokenizer, template)
        self._eos_ids = eos_ids(model.lm, self.tokenizer)
        self._coalescer: Batcher[_Call, tuple[Generation, Continuation]] = Batcher(self._batch, in_thread=in_thread)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: object) -> "QuietPolicy":
        """The policy of a folder that `selfcorrect train quiet-star` wrote; `options` are those of the constructor."""
        return cls(QuietModel.load(Path(folder)), **options)  # type: ignore[arg-type]

    async def generate(
        self, messages: Sequence[Message], sampling: Sampling, *, after: Generation | None = None
    ) -> Generation:
        """The next assistant message, decoded together with all concurrent calls; see `Policy.generate`."""
        call = begin_call(self, messages, sampling, after=after)
        generation, _ = await self._coalescer.submit(_Call(messages, call.sampling, after))
        call.finish(generation)
        return generation

    async def think_aloud(self, messages: Sequence[Message], sampling: Sampling) -> list[VisibleToken]:
        """As `generate`, but every token comes with the thought before it."""
        _, written = await self._coalescer.submit(_Call(messages, sampling, None))
        return [
            VisibleToken(self._text([token]), self._text(thought.ids), thought.weight)
            for token, thought in zip(written.ids, written.thoughts, strict=True)
        ]

    def _batch(self, calls: Sequence[_Call]) -> list[tuple[Generation, Continuation] | Exception]:
        requests = [self._request_or_error(call) for call in calls]
        good = [request for request in requests if isinstance(request, Request)]
        written = iter(self._decode(good))
        return [
            self._generation(call, request, next(written)) if isinstance(request, Request) else request
            for call, request in zip(calls, requests, strict=True)
        ]

    def _decode(self, requests: Sequence[Request]) -> list[Continuation]:
        written: list[Continuation] = []
        began, mode = time.perf_counter(), self.model.training
        self.model.eval()
        with torch.no_grad(), decoding_attention(next(self.model.parameters()).device):
            for begin in range(0, len(requests), self.max_batch):
                batch = requests[begin : begin + self.max_batch]
                written += QuietDecoding(self.model, batch, eos_ids=self._eos_ids, text_of=self._text).run()
        self.model.train(mode)
        visible = sum(len(row.ids) for row in written)
        self.cost.visible += visible
        self.cost.read += visible * (1 + self.model.thinking.overhead)
        self.cost.seconds += time.perf_counter() - began
        return written

    def _request_or_error(self, call: _Call) -> Request | PolicyError:
        try:
            return self._request(call)
        except PolicyError as error:
            return error

    def _request(self, call: _Call) -> Request:
        sampling = call.sampling
        prompt = prompt_after(self.template, call.messages, call.after, self._eos_ids)
        return Request(
            prompt_ids=prompt.ids,
            max_new_tokens=self._room(prompt.ids, sampling.max_new_tokens or self.max_new_tokens),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
            known=prompt.known,
        )

    def _room(self, prompt_ids: list[int], wanted: int) -> int:
        """How many tokens may follow the prompt: what is wanted, or what the context leaves beside a thought."""
        if not prompt_ids:
            raise PolicyError("the prompt has no tokens; show the policy at least one message with text in it")
        marks = sorted(set(self.model.mark_ids) & set(prompt_ids))
        if marks:
            names = ", ".join(self.tokenizer.convert_ids_to_tokens(marks))
            raise PolicyError(
                f"the prompt holds {names}: marks of thought are the model's own; take them out of the text"
            )
        context: int | None = getattr(self.model.lm.config, "max_position_embeddings", None)
        if context is None:
            return wanted
        room = context - len(prompt_ids) - self.model.thinking.overhead + 1
        if room < 1:
            raise UnreadablePromptError(
                f"the prompt has {len(prompt_ids)} token ids and a thought takes {self.model.thinking.overhead} "
                f"positions more, but the model's context holds {context}; shorten the problem or use a model with "
                "shorter thoughts"
            )
        return min(wanted, room)

    def _generation(self, call: _Call, request: Request, written: Continuation) -> tuple[Generation, Continuation]:
        generation = Generation(
            text=self._shown(written, request.stop),
            messages=conversation_after(call.after, call.messages),
            prompt_ids=request.prompt_ids,
            completion_ids=written.ids,
            logprobs=written.logprobs,
            finish_reason="stop" if written.stopped else "length",
        )
        return generation, written

    def _shown(self, written: Continuation, stop: tuple[str, ...]) -> str:
        """The text of a completion, with its thoughts if they are to be seen."""
        ids = written.ids[:-1] if written.ids[-1] in self._eos_ids else written.ids
        if not self.show_thoughts:
            return before_stop(self._text(ids), stop)
        first, last = self.model.mark_ids[0], self.model.mark_ids[-1]
        aloud: list[int] = []
        for token, thought in zip(ids, written.thoughts, strict=False):
            aloud += [first, *thought.ids, last, token]
        return self._text(aloud)

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
