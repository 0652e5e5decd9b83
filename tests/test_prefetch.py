"""Prefetching yields the same items, only sooner, and leaves nothing running."""

import threading
from collections.abc import Iterator

import pytest

from faceswap_cli.core.prefetch import prefetch


def test_prefetched_items_are_in_order() -> None:
    """The thread only changes when the work is done."""
    assert list(range(100)) == list(prefetch(iter(range(100)), depth=3))


def test_an_exception_comes_after_the_items_before_it() -> None:
    """The consumer gets all items, then the exception."""

    def failing() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no fourth")

    received = []
    with pytest.raises(ValueError, match="no fourth"):
        for item in prefetch(failing(), depth=10):
            received.append(item)  # noqa: PERF402 - the items before the exception count
    assert [0, 1, 2] == received


def test_prefetching_is_bounded() -> None:
    """No more items are made than `depth`, one with the consumer and one waiting for room."""
    made = []

    def counted() -> Iterator[int]:
        for number in range(1000):
            made.append(number)
            yield number

    items = prefetch(counted(), depth=4)
    for number in range(50):
        assert number == next(items)
        assert len(made) <= number + 4 + 2
    items.close()
    assert len(made) <= 50 + 4 + 2


def test_closing_stops_the_thread_and_closes_the_iterator() -> None:
    """Nothing keeps running after its consumer is gone."""
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    threads = threading.active_count()
    source = endless()
    items = prefetch(source, depth=2)
    assert 1 == next(items)
    items.close()
    assert closed.is_set()
    assert threads == threading.active_count()


def test_two_stages_run_concurrently() -> None:
    """Iterators wrapped in each other stop together, whichever is waiting."""
    threads = threading.active_count()
    numbers = prefetch(iter(range(1000)), depth=2)
    squares = prefetch((number**2 for number in numbers), depth=2)
    assert [0, 1, 4, 9] == [next(squares) for _ in range(4)]
    squares.close()
    numbers.close()
    assert threads == threading.active_count()
