"""Second pass of a conversion: reads the clip, swaps its faces and writes the frames: `Renderer`.

Frames are streamed: between two threads there is a queue with a limit. Any range of frames can be
rendered by itself, and comes out as it does among all others.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import FaceIndex, join_faces
from faceswap_cli.conversion.output import Output
from faceswap_cli.conversion.pipeline import (
    TEMPORAL_RADIUS,
    OutputFrame,
    add_label,
    composite_faces,
    crop_faces,
    run_model,
    smooth_over_time,
)
from faceswap_cli.conversion.swapper import FaceSwapper
from faceswap_cli.core.prefetch import prefetch
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import graceful_interrupt
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.segments import ALL_FRAMES, FrameRange
from faceswap_cli.video.source import ReportMissing

Item = TypeVar("Item")

MAX_FRAME_BYTES = 2**30
"""Memory for the frames in flight."""
BYTES_PER_PIXEL = 4.5
"""Of one of these frames: RGB and the decoded 4:2:0 planes, 8 bits each."""
QUEUE_DEPTH = 4
"""Frames that may wait between two threads where no batch is gathered."""


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """The second pass: reads the clip, swaps its faces and writes the frames."""

    clip: Clip
    face_index: FaceIndex
    identities: Sequence[str]
    """What each assignment swaps in."""
    swapper: FaceSwapper
    batch_size: int
    label_corner: str | None
    """Corner of the visible label; None: no label."""
    report: Reporter
    note: Callable[[str], None]
    """Called with a line for what is missing or damaged in the file."""
    missing: ReportMissing
    """Called with each time of which the file has no frame."""

    def render(self, output: Output, frames: FrameRange = ALL_FRAMES) -> int:
        """Write the frames of a range that are missing in an output; return where it ends then.

        Args:
            output: What is written; it was opened with the same range.
            frames: Numbers of frames, counted from the first one of the clip.

        Raises:
            KeyboardInterrupt: A signal asked to stop; the frames so far are saved.
        """
        done = output.writer.frames_done
        for name in output.writer.damaged:
            self.report.note(f"{name} is damaged: made again from there on")
        if done > frames.first:
            self.report.note(f"resuming after {done - frames.first} finished frames")
        identities = " and ".join(dict.fromkeys(self.identities))
        title = f"convert {self.clip.source.name} to {identities}"
        self.report.start_task(title, total=self.clip.approx_frame_count, unit="frames")
        started, done_before = time.monotonic(), done
        count = None if frames.end is None else frames.end - done
        with (
            graceful_interrupt() as stop,
            output.writer,
            closing(self.render_frames(start=done)) as rendered,
        ):
            for frame in islice(rendered, count):
                output.write(frame)
                done += 1
                rate = (done - done_before) / max(time.monotonic() - started, 1e-9)
                self.report.update(done - frames.first, {"fps": round(rate, 1)})
                if stop.requested:
                    self.report.note(f"stopped after {done - frames.first} finished frames")
                    break
        stop.raise_if_requested()
        return done

    def render_frames(self, *, start: int) -> Generator[OutputFrame, None, None]:
        """Yield the finished frames from number `start` of the clip on.

        The batch before them is run again: their masks and colors are smoothed over it.
        """
        begin = max(0, (start - TEMPORAL_RADIUS) // self.batch_size * self.batch_size)
        first = self.clip.first_index()
        read = self._read_frames(first + begin)
        depth = min(QUEUE_DEPTH, self.batch_size)
        with ExitStack() as stack:

            def threaded(items: Iterator[Item], depth: int = depth) -> Iterator[Item]:
                return stack.enter_context(closing(prefetch(items, depth=depth)))

            joined = join_faces(threaded(read), self.face_index.iter_tasks(self.identities))
            crops = threaded(crop_faces(joined, self.swapper), self.batch_size)
            layers = threaded(run_model(crops, self.swapper, batch_size=self.batch_size))
            finished = composite_faces(smooth_over_time(layers), self.swapper)
            labeled = add_label(finished, self.label_corner) if self.label_corner else finished
            for frame in threaded(labeled):
                if frame.frame.index >= first + start:
                    yield frame

    def _read_frames(self, index: int) -> Iterator[Frame]:
        """Yield the clip's frames from number `index` on."""
        position = self.face_index.position_before(index)
        for frame in self.clip.frames(note=self.note, resume_after=position, missing=self.missing):
            if frame.index >= index:
                yield frame


def limit_batch_size(size: tuple[int, int], *, requested: int) -> int:
    """Return how many frames the model may process at once, so that memory stays bounded.

    Args:
        size: (width, height) px of the frames.
        requested: Upper limit; the result is at least 1.
    """
    width, height = size
    budget = MAX_FRAME_BYTES / (BYTES_PER_PIXEL * width * height)
    fitting = (batch for batch in range(requested, 1, -1) if _frames_in_flight(batch) <= budget)
    return next(fitting, 1)


def _frames_in_flight(batch_size: int) -> int:
    """Return how many frames `Renderer.render_frames` holds at once, at most."""
    gathered = 2 * batch_size  # one batch is cropped while another one is in the model
    queued = 3 * min(QUEUE_DEPTH, batch_size)
    threads = 4  # each holds a frame
    return gathered + queued + threads + (2 * TEMPORAL_RADIUS + 1)
