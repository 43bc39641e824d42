"""Concurrent requests become one batch, whatever loop or thread they come from."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from selfcorrect.agents.decoding.batcher import Batcher


class Doubler:
    """Doubles numbers in batches and remembers the batches; refuses 113."""

    def __init__(self, *, in_thread: bool) -> None:
        self.batches: list[list[int]] = []
        self.coalescer: Batcher[int, int] = Batcher(self.run, in_thread=in_thread)

    def run(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        if 199 in numbers:
            raise RuntimeError("out of order")
        return [ValueError("unlucky") if number == 113 else 2 * number for number in numbers]


@pytest.fixture(params=[False, True], ids=["on the loop", "in a thread"])
def doubler(request: pytest.FixtureRequest) -> Doubler:
    return Doubler(in_thread=request.param)


def test_everyone_who_is_ready_shares_a_batch(doubler: Doubler) -> None:
    async def ask(number: int) -> int:
        for _ in range(number % 3):  # some arrive a pass or two later
            await asyncio.sleep(0)
        return await doubler.coalescer.submit(number)

    async def crowd() -> list[int]:
        return await asyncio.gather(*(ask(number) for number in range(50)))

    assert asyncio.run(crowd()) == [2 * number for number in range(50)]
    assert len(doubler.batches) == 1


def test_second_turns_share_a_batch_too(doubler: Doubler) -> None:
    async def two_turns(number: int) -> int:
        return await doubler.coalescer.submit(await doubler.coalescer.submit(number))

    async def crowd() -> list[int]:
        return await asyncio.gather(*(two_turns(number) for number in range(5)))

    assert asyncio.run(crowd()) == [0, 4, 8, 12, 16]
    assert [sorted(batch) for batch in doubler.batches] == [[0, 1, 2, 3, 4], [0, 2, 4, 6, 8]]


def test_one_bad_request_harms_nobody_else(doubler: Doubler) -> None:
    async def crowd() -> list[int | BaseException]:
        return await asyncio.gather(*(doubler.coalescer.submit(n) for n in (1, 113, 3)), return_exceptions=True)

    first, second, third = asyncio.run(crowd())
    assert (first, third) == (2, 6)
    assert isinstance(second, ValueError)


def test_a_failing_batch_fails_for_all_of_it_and_the_next_one_works(doubler: Doubler) -> None:
    async def crowd() -> list[int | BaseException]:
        failed = await asyncio.gather(*(doubler.coalescer.submit(n) for n in (1, 199)), return_exceptions=True)
        return [*failed, await doubler.coalescer.submit(4)]

    first, second, third = asyncio.run(crowd())
    assert isinstance(first, RuntimeError) and isinstance(second, RuntimeError)
    assert third == 8


def test_a_cancelled_caller_is_left_out(doubler: Doubler) -> None:
    async def crowd() -> int:
        given_up = asyncio.ensure_future(doubler.coalescer.submit(1))
        await asyncio.sleep(0)
        given_up.cancel()
        return await doubler.coalescer.submit(2)

    assert asyncio.run(crowd()) == 4
    assert doubler.batches == [[2]]


def test_several_loops_may_ask_one_after_the_other_or_at_once(doubler: Doubler) -> None:
    def loop_of_its_own(number: int) -> int:
        return asyncio.run(doubler.coalescer.submit(number))

    assert [loop_of_its_own(number) for number in range(3)] == [0, 2, 4]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(loop_of_its_own, range(20))) == [2 * number for number in range(20)]
