"""Key/value caches of finished turns, kept so that the next turn of their conversations need not read them again."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch

from selfcorrect.agents.decoding.engine import Decoded, Remembered, Request
from selfcorrect.agents.decoding.kv_cache import Rows, assemble
from selfcorrect.agents.decoding.prefill import Reader, Start, resume

Fingerprint = tuple[int, tuple[float, ...]]


class TurnCache:
    """Remembers one flush of the policy: every conversation as far as the model has read it.

    Args:
        limit_bytes: nothing is kept beyond this size.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._groups: list[Rows] = []
        self._places: dict[tuple[int, ...], tuple[int, int]] = {}
        self._weights: Fingerprint | None = None

    def forget(self) -> None:
        self._groups, self._places, self._weights = [], {}, None

    def recall(self, reader: Reader, requests: Sequence[Request]) -> Start | None:
        """`requests` read by continuing what is remembered, or None unless every one continues a remembered
        conversation."""
        if not self._places or any(request.known == 0 for request in requests):
            return None
        places = [self._places.get(tuple(request.prompt_ids[: request.known])) for request in requests]
        known = [place for place in places if place is not None]
        if len(known) < len(places) or self._weights != fingerprint(reader.model):
            return None
        cache, mask_RC = assemble(reader.config, self._groups, known)
        # the last token of a completion was drawn but never read
        return resume(reader, cache, mask_RC, [request.prompt_ids[request.known - 1 :] for request in requests])

    def replace(
        self, model: Any, batches: Sequence[tuple[Sequence[Request], Sequence[Decoded], Remembered | None]]
    ) -> None:
        """Forget everything and remember these batches, if they are not too large."""
        self.forget()
        if sum(kept.bytes for _, _, kept in batches if kept is not None) > self.limit_bytes:
            return
        for requests, results, kept in batches:
            if kept is None:
                continue
            offset = len(self._groups)
            self._groups.extend(kept.groups)
            for number, (request, result) in enumerate(zip(requests, results, strict=True)):
                group, row = kept.places[number]
                self._places[(*request.prompt_ids, *result.ids)] = (offset + group, row)
        self._weights = fingerprint(model)


class Shelf:
    """Remembers conversations one by one, as they leave a batch that goes on: the latest of them, at most `limit_rows`
    and `limit_bytes`."""

    def __init__(self) -> None:
        self.limit_bytes = self.limit_rows = 0
        self._groups: deque[tuple[Rows, list[tuple[int, ...]]]] = deque()
        self._places: dict[tuple[int, ...], tuple[Rows, int]] = {}
        self._weights: Fingerprint | None = None

    @property
    def bytes(self) -> int:
        return sum(rows.bytes for rows, _ in self._groups)

    @property
    def rows(self) -> int:
        return sum(len(conversations) for _, conversations in self._groups)

    def forget(self) -> None:
        self._groups.clear()
        self._places.clear()

    def open(self, model: Any, limit_bytes: int) -> None:
        """Before a batch begins: forget what other weights have read."""
        weights = fingerprint(model)
        if weights != self._weights:
            self.forget()
        self._weights, self.limit_bytes = weights, limit_bytes

    def put(self, conversations: Sequence[tuple[int, ...]], rows: Rows) -> None:
        """Remember `rows`, row i of which has read the ids `conversations[i]` but for the last; of what is too much,
        the oldest is forgotten."""
        self._groups.append((rows, list(conversations)))
        self._places.update({ids: (rows, row) for row, ids in enumerate(conversations)})
        # a conversation that is put again takes room again until the older group goes
        while self._groups and (self.bytes > self.limit_bytes or self.rows > self.limit_rows):
            old, forgotten = self._groups.popleft()
            for ids in forgotten:
                if self._places.get(ids, (None, 0))[0] is old:
                    del self._places[ids]

    def knows(self, request: Request) -> bool:
        """Whether `request` continues a conversation that is remembered."""
        return request.known > 0 and tuple(request.prompt_ids[: request.known]) in self._places

    def recall(self, reader: Reader, requests: Sequence[Request]) -> Start:
        """`requests`, all of them known, read by continuing what is remembered; row i is that of request i."""
        found = [self._places[tuple(request.prompt_ids[: request.known])] for request in requests]
        sources = list({id(rows): rows for rows, _ in found}.values())
        number_of = {id(rows): number for number, rows in enumerate(sources)}
        places = [(number_of[id(rows)], row) for rows, row in found]
        cache, mask_RC = assemble(reader.config, sources, places)
        return resume(reader, cache, mask_RC, [request.prompt_ids[request.known - 1 :] for request in requests])


def fingerprint(model: Any) -> Fingerprint:
    """Changes when the weights do: torch's count of in-place changes, and the first number of every parameter.

    The numbers catch what the count cannot see, such as adapters merged through `.data`.
    """
    parameters = list(model.parameters())
    first = [parameter.detach().reshape(-1)[0] for parameter in parameters if parameter.numel()]
    return sum(parameter._version for parameter in parameters), tuple(torch.stack(first).float().tolist())
