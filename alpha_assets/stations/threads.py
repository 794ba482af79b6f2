"""Threads that stay, for work that numpy and polars do outside the interpreter's lock."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def side_by_side(workers: int) -> Callable[[Callable[[Item], Answer], Iterable[Item]], Iterator[Answer]]:
    """A ``map`` that works on so many items at a time.

    What an item raises is raised in its place, when no other is worked on any more: nobody goes on writing after a
    run has failed. With one worker, or one item, it is done here, so that such work may hand out work in turn; other
    work may not.
    """

    def spread(work: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
        items = list(items)
        if workers <= 1 or len(items) < 2:
            yield from map(work, items)
            return
        running = [_pool(workers).submit(work, item) for item in items]
        try:
            for one in running:
                yield one.result()
        finally:
            for one in running:
                one.cancel()
            wait(running)

    return spread


@contextmanager
def beside(work: Callable[[], Answer]) -> Iterator[Callable[[], Answer]]:
    """What ``work`` gives, as a function that waits for it: it is done while the block goes on.

    What it raises is raised where it is asked for. The block does not end before it. Such work may hand out work
    ``side_by_side``, and none of its own kind.
    """
    running = _pool(1).submit(work)
    try:
        yield running.result
    finally:
        running.cancel()
        wait([running])


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that end give their memory back; touching new memory then took a fifth of a build."""
    return ThreadPoolExecutor(workers, "alpha-assets")


# A forked process has none of these threads, and would wait for them.
os.register_at_fork(after_in_child=_pool.cache_clear)
