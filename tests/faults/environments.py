"""Surroundings in which programs fail: little disk, few descriptors, no home, a clock that jumps.

Each is armed in the process of the workload (`injection.run_in_process`), before it begins.
"""

import os
import pwd
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fakes import SpotDetector
from faults.injection import RunOnly, on_file_operation


@dataclass(kw_only=True)
class LimitedFileSize(RunOnly):
    """No file may grow beyond a size, as with `ulimit -f`; the write that would fails."""

    limit_bytes: int

    def arm(self, folder: Path) -> None:
        """Set the limit; Python ignores the signal that comes with it."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit_bytes, self.limit_bytes))

    def finish(self) -> None:
        """Report nothing."""


@dataclass(kw_only=True)
class FewDescriptors(RunOnly):
    """At most so many files may be open at once."""

    count: int = 64

    def arm(self, folder: Path) -> None:
        """Set the limit."""
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.count, self.count))


@dataclass(kw_only=True)
class NoHome(RunOnly):
    """The user has no home and no name, as in a container that is run by a number."""

    def arm(self, folder: Path) -> None:
        """Remove both."""
        for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "USER"):
            os.environ.pop(name, None)

        def refuse(user: int) -> pwd.struct_passwd:
            raise KeyError(f"getpwuid(): uid not found: {user}")

        pwd.getpwuid = refuse


@dataclass(kw_only=True)
class NobodyReads(RunOnly):
    """What the process prints goes into pipes that nobody reads any more, as after `| head`."""

    def arm(self, folder: Path) -> None:
        """Close the reading end of a pipe and print into the other one."""
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)
        os.dup2(writing, 2)


@dataclass(kw_only=True)
class ClockJumpsBack(RunOnly):
    """The wall clock is put back by a day after each file operation number `at`."""

    at: int = 20

    def arm(self, folder: Path) -> None:
        """Replace the clock."""
        now = time.time
        on_file_operation(folder, self._count)
        time.time = lambda: now() - 86_400 * (self.operations // self.at)


@dataclass(kw_only=True)
class LibraryFails(RunOnly):
    """The library that finds faces, or computes gradients, raises an error of its own."""

    at: int
    """Which call of it."""

    def arm(self, folder: Path) -> None:
        """Replace the functions of the libraries that are called for each frame or step."""
        SpotDetector.detect = self._fail_once(SpotDetector.detect)  # type: ignore[method-assign]
        torch.autograd.backward = self._fail_once(torch.autograd.backward)

    def _fail_once(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that raises when it is called for the time number `at`."""

        def call(*arguments: object, **options: object) -> object:
            self.operations += 1
            if self.operations == self.at:
                raise RuntimeError("a library has failed")
            return function(*arguments, **options)

        return call


@dataclass(kw_only=True)
class FolderRemoved(RunOnly):
    """The folder of the work is removed before the file operation number `at`.

    At once: while its files were deleted one by one, another thread could write new ones.
    """

    at: int

    def arm(self, folder: Path) -> None:
        """Begin to count."""
        self._folder = folder
        on_file_operation(folder, self._count)

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.at:  # removing is a file operation, too
            shutil.rmtree(self._folder.rename(self._folder.with_name("removed")))
