"""Standard error is muted while any thread is inside `suppress_stderr`, and restored after."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faceswap_cli.core.stderr import suppress_stderr


@pytest.fixture
def same_stderr() -> Iterator[None]:
    """Check that file descriptor 2 is the same file after the test; restore it in any case."""
    before, copy = os.fstat(2), os.dup(2)
    yield
    after = os.fstat(2)
    os.dup2(copy, 2)
    os.close(copy)
    assert (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino)


@pytest.mark.usefixtures("same_stderr")
def test_overlapping_threads_restore_standard_error() -> None:
    """The block that began first ends first; standard error is muted until the other ends, too."""
    second_is_inside, first_is_over = threading.Event(), threading.Event()
    sizes: list[os.stat_result] = []

    def overlap() -> None:
        with suppress_stderr():
            second_is_inside.set()
            assert first_is_over.wait(60)
            sizes.append(os.fstat(2))

    thread = threading.Thread(target=overlap)
    with suppress_stderr():
        thread.start()
        assert second_is_inside.wait(60)
    first_is_over.set()
    thread.join()

    null = Path(os.devnull).stat()
    assert [null.st_rdev] == [found.st_rdev for found in sizes]


@pytest.mark.usefixtures("same_stderr")
def test_an_error_restores_standard_error() -> None:
    """A block that raises restores it like any other."""
    with pytest.raises(ValueError, match="no model"), suppress_stderr():
        raise ValueError("no model")
