"""Iterators that run in a background thread: `prefetch`.

Stages of a pipeline are nested iterators. Wrapping one in `prefetch` lets it run while its consumer
is busy; its exceptions are raised in the consumer, and closing it closes the stages before it.
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_S = 0.1
"""Timeout of a wait before a thread checks whether to stop, seconds."""


def prefetch(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """Yield `items`, computed up to `depth` in advance by a background thread.

    An exception of `items` is raised here, after all items before it. Closing this iterator, or an
    exception in its consumer, stops the thread, and closes `items` if it is a generator.
    """
    queue: Queue[_Message[Item]] = Queue(maxsize=depth)
    stopped = threading.Event()
    thread = threading.Thread(target=_fill, args=(queue, items, stopped), daemon=True)
    thread.start()
    try:
        while (message := _next(queue)).item is not None:
            yield message.item
        if message.error is not None:
            raise message.error
    finally:
        stopped.set()
        thread.join()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Message(Generic[Item]):
    """An item of the thread, or, without an item, the end with its error if there was one."""

    item: Item | None = None
    error: BaseException | None = None


def _fill(queue: "Queue[_Message[Item]]", items: Iterator[Item], stopped: threading.Event) -> None:
    """Put every item into the queue until there are no more, or the consumer has stopped."""
    end: _Message[Item] = _Message()
    try:
        with ExitStack() as stack:
            if isinstance(items, Generator):
                stack.callback(items.close)
            for item in items:
                if not _put(queue, _Message(item=item), stopped):
                    break
    except BaseException as error:  # raised again in the consumer
        end = _Message(error=error)
    _put(queue, end, stopped)


def _put(queue: "Queue[Item]", item: Item, stopped: threading.Event) -> bool:
    """Put an item into the queue, waiting for space; return False if stopped before."""
    while not stopped.is_set():
        try:
            queue.put(item, timeout=_POLL_S)
        except Full:
            continue
        return True
    return False


def _next(queue: "Queue[Item]") -> Item:
    """Wait for the next item in steps, so that Ctrl-C works on every system."""
    while True:
        try:
            return queue.get(timeout=_POLL_S)
        except Empty:
            continue
