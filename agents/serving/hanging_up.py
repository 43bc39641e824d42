"""Streams that end when their reader hangs up, even while nothing is being sent."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from starlette.requests import Request

Item = TypeVar("Item")


async def until_hangup(request: Request, items: AsyncIterator[Item]) -> AsyncGenerator[Item]:
    """What `items` yields; it is cancelled as soon as the client of `request` is gone."""
    arrived: asyncio.Queue[tuple[Item] | None] = asyncio.Queue()

    async def pump() -> None:
        try:
            async for item in items:
                arrived.put_nowait((item,))
        finally:
            arrived.put_nowait(None)

    pumping = asyncio.create_task(pump())
    watching = asyncio.create_task(_hangup(request))
    watching.add_done_callback(lambda _: pumping.cancel())
    try:
        while (entry := await arrived.get()) is not None:
            yield entry[0]
        if not watching.done():
            await pumping  # raises what `items` raised
    finally:
        watching.cancel()
        pumping.cancel()
        await asyncio.wait([watching, pumping])


async def _hangup(request: Request) -> None:
    """Returns when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
