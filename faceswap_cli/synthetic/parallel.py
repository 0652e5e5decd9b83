"""Rendering many frames in order on several cores: `render_frames`, `render_in_order`."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain, islice
from typing import TypeVar

import cv2

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.render import HeadModel, RenderedFrame, render_frame
from faceswap_cli.synthetic.traits import Person

Scene = TypeVar("Scene")
Frame = TypeVar("Frame")

CHUNK = 8
"""Scenes per task of a worker."""

_MIN_PARALLEL_SCENES = 12 * CHUNK
"""Fewer scenes than this are rendered here before a second process has started."""


RenderChunk = Callable[[Sequence[Scene]], list[Frame]]
"""Renders some scenes; has to be a function that another process can be given."""


def render_frames(
    person: Person, scenes: Iterable[SceneParams], *, size_px: int, processes: int | None = None
) -> Iterator[RenderedFrame]:
    """Yield frames of `person` at each scene, in order, equal to those of `render_frame`.

    See `render_in_order` for the processes.

    Args:
        person: The person to render.
        scenes: Pose, expression and light of each frame.
        size_px: Side of the images.
        processes: As in `render_in_order`.
    """
    return render_in_order(partial(_render_chunk, person, size_px), scenes, processes=processes)


def render_in_order(
    render: RenderChunk[Scene, Frame], scenes: Iterable[Scene], *, processes: int | None = None
) -> Iterator[Frame]:
    """Yield the frames of scenes, in order.

    Only a few chunks are in memory at any time. The workers are new processes (`spawn`: safe with
    threads and CUDA), so a script that calls this needs the usual `if __name__ == "__main__":`.

    Args:
        render: Renders the scenes of a chunk.
        scenes: The scenes.
        processes: Number of processes; 1 uses this one; default: one per core, if there are
            enough scenes.
    """
    chunks = _chunks(iter(scenes))
    first = list(islice(chunks, _MIN_PARALLEL_SCENES // CHUNK))
    if processes is None:
        is_long = len(first) * CHUNK >= _MIN_PARALLEL_SCENES
        processes = (os.cpu_count() or 1) if is_long else 1
    if processes == 1:
        for chunk in chain(first, chunks):
            yield from render(chunk)
    else:
        yield from _render_in_parallel(render, chain(first, chunks), processes)


def _render_in_parallel(
    render: RenderChunk[Scene, Frame], chunks: Iterable[Sequence[Scene]], processes: int
) -> Iterator[Frame]:
    """Render chunks in worker processes, a few in advance."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=init_worker) as pool:
        pending: deque[Callable[[], list[Frame]]] = deque()
        try:
            for chunk in chunks:
                pending.append(_submit_chunk(pool, render, chunk))
                if len(pending) > 2 * processes:
                    yield from pending.popleft()()
            while pending:
                yield from pending.popleft()()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _submit_chunk(
    pool: ProcessPoolExecutor, render: RenderChunk[Scene, Frame], chunk: Sequence[Scene]
) -> Callable[[], list[Frame]]:
    """Submit a chunk; return a function that waits for it, or renders it here if the pool broke.

    A pool cannot start from a program read from standard input, and loses workers when memory
    runs out.
    """
    render_here = partial(render, chunk)
    try:
        future = pool.submit(render_here)
    except BrokenProcessPool:
        return render_here

    def wait() -> list[Frame]:
        try:
            return future.result()
        except BrokenProcessPool:
            return render_here()

    return wait


def _chunks(scenes: Iterator[Scene]) -> Iterator[Sequence[Scene]]:
    while chunk := tuple(islice(scenes, CHUNK)):
        yield chunk


def _render_chunk(
    person: Person, size_px: int, scenes: Sequence[SceneParams]
) -> list[RenderedFrame]:
    head_model = HeadModel.from_person(person)
    return [render_frame(head_model, scene, size_px) for scene in scenes]


def init_worker() -> None:
    """Limit a worker to one core, and leave Ctrl-C to the process that started it."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
