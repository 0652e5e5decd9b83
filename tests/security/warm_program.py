"""The program, loaded once: runs each command line in a fork of its own (`WarmProgram`).

Starting Python and the libraries takes seconds, a fork milliseconds. The process that forks is a
child that has done nothing else: threads of a test's process would not survive a fork.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn, Self

import numpy as np

from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.types import Image
from faceswap_cli.faces.types import Face

TIMEOUT_S = 120
"""Generous: a machine may be busy. What hangs is killed, and reported as a signal."""
MAX_ADDRESS_BYTES = 16 << 30
"""Protects the machine; the tests' own bound is much lower."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to."""

    code: int
    """Exit code; minus a signal's number."""
    stdout: str
    stderr: str
    peak_mb: float
    """Largest memory in use beyond that of the loaded program, MB."""
    left_processes: bool
    """Whether a process that it started outlived it."""


class WarmProgram:
    """A context: the child that forks for each command."""

    def __enter__(self) -> Self:
        """Start the child."""
        pipe = subprocess.PIPE
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child."""
        self._process.communicate()

    def run(self, *words: object, folder: Path) -> Outcome:
        """Run a command line in a folder."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"words": list(map(str, words)), "folder": str(folder)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


class CentralFace:
    """A detector that takes the middle of every image of at least 16 px for a face."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release nothing."""

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return one face; none in a tiny image."""
        height, width = image.shape[:2]
        if min(height, width) < 16:
            return []
        spread = np.random.default_rng(1).uniform(0.3, 0.7, (478, 2))
        landmarks = (spread * [width, height]).astype(np.float32)
        box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
        shapes, pose = (0.25,) * 52, (1.0, 2.0, 3.0)
        return [Face(box=box, landmarks=landmarks, score=0.9, blendshapes=shapes, pose=pose)]

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the same as `detect`."""
        return self.detect(view.to_array())


def serve() -> None:
    """Load the program, then answer each request on stdin with an outcome on stdout."""
    from faceswap_cli.cli.app import main
    from faceswap_cli.conversion import analysis
    from faceswap_cli.stages import convert, extract, verify  # noqa: F401 - loaded before any fork

    extract.DETECTORS = dict.fromkeys(extract.DETECTORS, CentralFace)
    analysis.LOCATION_DETECTORS = dict.fromkeys(analysis.LOCATION_DETECTORS, CentralFace)
    for line in sys.stdin:
        request = json.loads(line)
        outcome = run_forked(main, request["words"], Path(request["folder"]))
        print(json.dumps(asdict(outcome)), flush=True)


def run_forked(main: Callable[[], None], words: Sequence[str], folder: Path) -> Outcome:
    """Run the program in a fork, in a process group of its own."""
    before = resident_mb(os.getpid())
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            run_and_exit(main, words, folder, (out, err))
        _, status, used = os.wait4(child, 0)
        try:
            os.killpg(child, signal.SIGKILL)
            left = True
        except ProcessLookupError:
            left = False
        code = os.waitstatus_to_exitcode(status)
        texts = [read_text(one) for one in (out, err)]
    peak = max(0.0, used.ru_maxrss / 1024 - before)
    return Outcome(code=code, stdout=texts[0], stderr=texts[1], peak_mb=peak, left_processes=left)


def run_and_exit(
    main: Callable[[], None], words: Sequence[str], folder: Path, files: Sequence[BinaryIO]
) -> NoReturn:
    """Run the program as a process of its own would, and end this process."""
    code = 0
    try:
        os.setsid()
        signal.alarm(TIMEOUT_S)
        resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_BYTES, MAX_ADDRESS_BYTES))
        for number, file in enumerate(files, 1):
            os.dup2(file.fileno(), number)
        os.chdir(folder)
        sys.argv = ["faceswap", *words]
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # as Python does at the end of a program
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def resident_mb(process: int) -> float:
    """Return the memory that a process has in use, MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def read_text(file: BinaryIO) -> str:
    """Return what was written to a file."""
    file.seek(0)
    return file.read().decode(errors="replace")


if __name__ == "__main__":
    serve()
