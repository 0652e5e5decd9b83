"""Work done ahead in a thread of its own; knows nothing of what is done.

Stages of a pipeline are iterators over each other. Wrapping one in `ahead` lets it run while its
user is busy; what it raises arrives where it would have, and closing it stops everything behind.
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_S = 0.1
"""How long a thread waits before it looks around, seconds."""


def prefetch(items: Iterator[Item], *, depth: int) -> Generator[Item, None, None]:
    """Yield `items`, made up to `depth` in advance by a thread of their own.

    What `items` raises is raised here, after all that came before it. Closing this iterator, or
    an exception at its user's, stops the thread, and closes `items` if they are a generator.
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
    """What a thread tells: here is one more, or, without an item, that was all."""

    item: Item | None = None
    error: BaseException | None = None


def _fill(queue: "Queue[_Message[Item]]", items: Iterator[Item], stopped: threading.Event) -> None:
    """Put every item into the queue until there are no more, or no one wants them."""
    end: _Message[Item] = _Message()
    try:
        with ExitStack() as stack:
            if isinstance(items, Generator):
                stack.callback(items.close)
            for item in items:
                if not _put(queue, _Message(item=item), stopped):
                    break
    except BaseException as error:  # it is the caller's, whatever it is
        end = _Message(error=error)
    _put(queue, end, stopped)


def _put(queue: "Queue[Item]", item: Item, stopped: threading.Event) -> bool:
    """Wait for room in the queue; say whether there was any before it was stopped."""
    while not stopped.is_set():
        try:
            queue.put(item, timeout=_POLL_S)
        except Full:
            continue
        return True
    return False


def _next(queue: "Queue[Item]") -> Item:
    """Wait for the next item in steps, so that Ctrl-C is heard on every system."""
    while True:
        try:
            return queue.get(timeout=_POLL_S)
        except Empty:
            continue
