"""The law of work ahead: the same items, only sooner, and nothing left running."""

import threading
from collections.abc import Iterator

import pytest

from faceswap_cli.core.prefetch import prefetch


def test_what_is_made_ahead_comes_in_order() -> None:
    """A thread of its own changes nothing but when the work is done."""
    assert list(range(100)) == list(prefetch(iter(range(100)), depth=3))


def test_a_failure_comes_after_what_was_made_before_it() -> None:
    """The user of the iterator gets everything that is good, then the exception."""

    def failing() -> Iterator[int]:
        yield from range(3)
        raise ValueError("no fourth")

    seen = []
    with pytest.raises(ValueError, match="no fourth"):
        for item in prefetch(failing(), depth=10):
            seen.append(item)  # noqa: PERF402 - what came before the failure counts
    assert [0, 1, 2] == seen


def test_work_ahead_is_bounded() -> None:
    """No more is made than `depth`, one in the hand and one at the door."""
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


def test_closing_stops_the_thread_and_closes_the_source() -> None:
    """Nothing runs on after its user has gone."""
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


def test_two_stages_run_one_behind_the_other() -> None:
    """Iterators wrapped in each other stop together, whichever is waiting."""
    threads = threading.active_count()
    numbers = prefetch(iter(range(1000)), depth=2)
    squares = prefetch((number**2 for number in numbers), depth=2)
    assert [0, 1, 4, 9] == [next(squares) for _ in range(4)]
    squares.close()
    numbers.close()
    assert threads == threading.active_count()
