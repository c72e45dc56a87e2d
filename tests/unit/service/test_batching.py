"""Who is computed with whom: no client waits for nobody, none gets another's answer, and the queue has an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimgnn.service.batching import BYTES_PER_ATOM, Batcher, QueueFullError
from kimgnn.service.formats import Answer, Given

NEVER = 3600.0
"""Seconds of a window that a test would not wait for."""


class Echo:
    """Computes nothing, when it is let, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.free = asyncio.Event()
        self.free.set()

    async def answers(self, batch: Sequence[Given]) -> list[Answer]:
        self.batches.append([given.identifier for given in batch])
        await self.free.wait()
        return [Answer([given.identifier]) for given in batch]


def entries(*names: str, size: int = 1) -> list[Given]:
    return [Given("model", name, "cif", " " * size, {}) for name in names]


def with_batcher(
    test: Callable[[Batcher, Echo], Awaitable[None]], window: float = NEVER, structures: int = 100, atoms: int = 1000
) -> Echo:
    """Run a test beside a batcher; what it may wait for comes in a moment or never."""

    async def run() -> Echo:
        echo = Echo()
        batcher = Batcher(20, window, structures, atoms)
        running = asyncio.create_task(batcher.run(echo))
        async with asyncio.timeout(10):
            await test(batcher, echo)
        running.cancel()
        return echo

    return asyncio.run(run())


async def settle() -> None:
    """Let everything happen that can happen at once."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_one_client_waits_for_nobody() -> None:
    async def test(batcher: Batcher, _: Echo) -> None:
        for number in range(5):
            (answer,) = await asyncio.gather(*batcher.submit(entries(str(number))))
            assert answer.results == [str(number)]

    assert with_batcher(test).batches == [["0"], ["1"], ["2"], ["3"], ["4"]]


def test_what_comes_at_once_is_computed_at_once() -> None:
    async def test(batcher: Batcher, _: Echo) -> None:
        await asyncio.gather(*(answer for name in "abc" for answer in batcher.submit(entries(name))))

    assert with_batcher(test).batches == [["a", "b", "c"]]


def test_what_comes_while_another_is_computed_is_one_batch() -> None:
    async def test(batcher: Batcher, echo: Echo) -> None:
        echo.free.clear()
        answers = batcher.submit(entries("a"))
        await settle()
        for name in "bcd":
            answers += batcher.submit(entries(name))
            await settle()
        assert len(batcher) == 3
        echo.free.set()
        await asyncio.gather(*answers)

    assert with_batcher(test).batches == [["a"], ["b", "c", "d"]]


async def crowd(batcher: Batcher) -> None:
    await asyncio.gather(*(answer for name in "abcd" for answer in batcher.submit(entries(name))))


def test_after_a_crowd_one_waits_for_half_of_it() -> None:
    async def test(batcher: Batcher, echo: Echo) -> None:
        await crowd(batcher)
        first = batcher.submit(entries("e"))
        await settle()
        assert len(echo.batches) == 1
        await asyncio.gather(*first, *batcher.submit(entries("f")))

    assert with_batcher(test).batches[1:] == [["e", "f"]]


def test_of_a_large_crowd_half_is_computed_while_the_others_come_and_go() -> None:
    """In turn: never all of them together, after which the worker would wait for all of them to come again."""

    async def test(batcher: Batcher, echo: Echo) -> None:
        async def client(name: str) -> None:
            for _ in range(4):
                await asyncio.gather(*batcher.submit(entries(name)))

        await asyncio.gather(*(client(str(number)) for number in range(20)))

    batches = with_batcher(test).batches
    assert [len(batch) for batch in batches] == [10] * 8
    assert {*batches[0]}.isdisjoint(batches[1])


def test_but_no_longer_than_the_window() -> None:
    async def test(batcher: Batcher, echo: Echo) -> None:
        await crowd(batcher)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*batcher.submit(entries("e")))
        assert asyncio.get_running_loop().time() - began >= 0.05

    assert with_batcher(test, window=0.05).batches[1:] == [["e"]]


def test_batches_are_bounded_by_structures_and_by_size() -> None:
    async def test(batcher: Batcher, _: Echo) -> None:
        await asyncio.gather(*batcher.submit(entries(*"abcde")))
        await asyncio.gather(*batcher.submit(entries(*"fgh", size=6 * BYTES_PER_ATOM)))
        await asyncio.gather(*batcher.submit(entries("i", size=60 * BYTES_PER_ATOM)))

    assert with_batcher(test, structures=2, atoms=10).batches == [
        ["a", "b"], ["c", "d"], ["e"], ["f"], ["g"], ["h"], ["i"],
    ]  # fmt: skip


def test_a_full_queue_is_told_and_jobs_go_beside_it() -> None:
    async def test(batcher: Batcher, echo: Echo) -> None:
        echo.free.clear()
        batcher.submit(entries("first"))
        await settle()
        batcher.submit(entries(*map(str, range(20))))
        with pytest.raises(QueueFullError):
            batcher.submit(entries("late"))
        batcher.submit(entries("job"), bounded=False)
        assert len(batcher) == 21

    with_batcher(test)


def test_what_nobody_waits_for_is_not_computed() -> None:
    async def test(batcher: Batcher, echo: Echo) -> None:
        echo.free.clear()
        first = batcher.submit(entries("a"))
        await settle()
        gone, stays = batcher.submit(entries("gone")), batcher.submit(entries("stays"))
        gone[0].cancel()
        echo.free.set()
        await asyncio.gather(*first, *stays)

    assert with_batcher(test).batches == [["a"], ["stays"]]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=8), st.integers(1, 5), st.integers(1, 3))
def test_everybody_gets_their_own(requests: list[tuple[int, int]], structures: int, workers: int) -> None:
    """Requests of any sizes at any times, to any number of workers."""

    async def run() -> None:
        batcher = Batcher(1000, 0.0, structures, 1000)
        running = [asyncio.create_task(batcher.run(Echo())) for _ in range(workers)]
        waiting = []
        for number, (size, pause) in enumerate(requests):
            names = [f"{number}.{place}" for place in range(size)]
            waiting.append((names, asyncio.gather(*batcher.submit(entries(*names)))))
            for _ in range(pause):
                await asyncio.sleep(0)
        for names, answers in waiting:
            assert [answer.results for answer in await answers] == [[name] for name in names]
        for task in running:
            task.cancel()

    asyncio.run(run())
