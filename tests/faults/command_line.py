"""The commands as a user types them: processes of `python -m faceswap_cli`, each in a terminal.

The terminal is a pseudo terminal that the process controls: Ctrl-C is typed, and closing it hangs
the process up, as closing a window does.
"""

import fcntl
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from fakes import run_extract
from faults import workloads
from faults.workloads import Inputs

from faceswap_cli.core.workspace import Workspace
from faceswap_cli.synthetic import CAST, animate, render_frames
from faceswap_cli.video.writer import VideoWriter

TIMEOUT_S = 240.0
COLUMNS = 200
"""Of a terminal; in a narrower one counts are cut."""
SURROUNDINGS = {"TERM": "xterm", "COLUMNS": str(COLUMNS)}
"""What a terminal tells; a test runner may be in one of another kind and width."""
HEAD_PX = 160
HEAD_FRAMES = 60
CLIP_FRAMES = 260
"""More than a conversion has in one segment."""


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """A command and how its result is read."""

    words: tuple[str, ...]
    """Typed in the folder of `make_folder`."""
    unit: str
    """What it counts on the terminal."""
    read_result: Callable[[Path], dict[str, str]]
    """Returns the digests of its result in that folder."""


COMMANDS: Mapping[str, CommandLine] = {
    "extract": CommandLine(
        words=("extract", "head.mp4", "--consent", "synthetic"),
        unit="frames",
        read_result=lambda folder: workloads.digest_files(_space(folder).set_folder("head").root),
    ),
    "train": CommandLine(
        words=(
            *("train", "ada", "bo", "--model", "autoencoder", "--preset", "debug"),
            *("--name", "new", "--max-images", "400", "--set", "train.batch_size=2"),
            *("--set", "train.checkpoint_interval_images=80", "--device", "cpu"),
        ),
        unit="images",
        read_result=lambda folder: workloads.digest_run(_space(folder).run_folder("new")),
    ),
    "convert": CommandLine(
        words=(
            *("convert", "long.mp4", "--model", "ada-bo", "--to", "bo", "-o", "swapped.mp4"),
            *("--quality", "0", "--color", "none", "--device", "cpu"),
        ),
        unit="frames",
        read_result=lambda folder: workloads.digest_frames(folder / "swapped.mp4"),
    ),
}


def make_folder(inputs: Inputs, folder: Path) -> None:
    """Make a folder in which every command can be typed."""
    shutil.copytree(inputs.root, folder)
    space = Workspace.open(folder / "workspace")
    heads = [
        one.image
        for one in render_frames(
            CAST["bo"], animate(4, seconds=0.4).scenes, size_px=HEAD_PX, processes=1
        )
    ]
    with VideoWriter(folder / "head.mp4", size=(HEAD_PX, HEAD_PX), rate=Fraction(25)) as writer:
        for index in range(HEAD_FRAMES):
            writer.write(heads[index % len(heads)], Fraction(index, 25))
    # A conversion takes the faces from the set: no detector takes a spot for a face.
    clip = workloads.write_spot_clip(folder / "long.mp4", frames=CLIP_FRAMES)
    run_extract(clip, space.set_folder("long"))


class TerminalProcess:
    """A command in a terminal of its own.

    Args:
        words: The command line, after `faceswap`.
        folder: The current folder.
        set_limits: Called in the process before the program starts.
        variables: Of the environment.
    """

    def __init__(
        self,
        words: tuple[str, ...],
        folder: Path,
        *,
        set_limits: Callable[[], None] = lambda: None,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._written = b""
        self._terminal, inner = os.openpty()
        termios.tcsetwinsize(inner, (24, COLUMNS))

        def take_terminal() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under `nohup` it would stay ignored
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)
            set_limits()

        self._began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "faceswap_cli", *words],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **SURROUNDINGS, **variables},
            stdin=subprocess.DEVNULL,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(inner)

    @property
    def shown(self) -> str:
        """What the terminal shows, without colors."""
        return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", self._written.decode(errors="replace"))

    def watch(self, seconds: float = TIMEOUT_S, *, until: str | None = None) -> None:
        """Read the terminal for some seconds, until it shows a pattern, or until the end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if until and re.search(until, self.shown):
                return
            if select.select([self._terminal], [], [], left)[0]:
                try:
                    self._written += os.read(self._terminal, 4096)
                except OSError:  # everybody who wrote to it is gone
                    return

    def press_ctrl_c(self) -> None:
        """Type Ctrl-C."""
        os.write(self._terminal, b"\x03")

    def close_terminal(self) -> None:
        """Close the window."""
        os.close(self._terminal)
        self._terminal = -1

    def end(self) -> int:
        """Return the exit code, negative for a signal; what it shows until then is read."""
        if self._terminal >= 0:
            self.watch()
        try:
            return self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
            if self._terminal >= 0:
                self.close_terminal()

    def wait_for_peak(self) -> int:
        """Wait for its end; return the most memory that was resident, bytes."""
        self.watch()
        _, status, used = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return used.ru_maxrss * 1024

    @property
    def seconds(self) -> float:
        """Seconds since it was typed."""
        return time.monotonic() - self._began


def _space(folder: Path) -> Workspace:
    return Workspace(root=folder / "workspace")
