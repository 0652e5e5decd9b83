"""Rendering many frames in order on several cores: `render_frames`."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain, islice

import cv2

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.render import HeadModel, RenderedFrame, render_frame
from faceswap_cli.synthetic.traits import Person

CHUNK = 8
"""Scenes per task of a worker."""

_MIN_PARALLEL_SCENES = 12 * CHUNK
"""Fewer scenes than this are rendered here before a second process has started."""


def render_frames(
    person: Person, scenes: Iterable[SceneParams], *, size_px: int, processes: int | None = None
) -> Iterator[RenderedFrame]:
    """Yield frames of `person` at each scene, in order, equal to those of `render_frame`.

    Only a few chunks are in memory at any time. The workers are new processes (`spawn`: safe with
    threads and CUDA), so a script that calls this needs the usual `if __name__ == "__main__":`.

    Args:
        person: The person to render.
        scenes: Pose, expression and light of each frame.
        size_px: Side of the images.
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
            yield from _render_chunk(person, chunk, size_px)
    else:
        yield from _render_in_parallel(person, chain(first, chunks), size_px, processes)


def _render_in_parallel(
    person: Person, chunks: Iterable[Sequence[SceneParams]], size_px: int, processes: int
) -> Iterator[RenderedFrame]:
    """Render chunks in worker processes, a few in advance."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=init_worker) as pool:
        pending: deque[Callable[[], list[RenderedFrame]]] = deque()
        try:
            for chunk in chunks:
                pending.append(_submit_chunk(pool, person, chunk, size_px))
                if len(pending) > 2 * processes:
                    yield from pending.popleft()()
            while pending:
                yield from pending.popleft()()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _submit_chunk(
    pool: ProcessPoolExecutor, person: Person, chunk: Sequence[SceneParams], size_px: int
) -> Callable[[], list[RenderedFrame]]:
    """Submit a chunk; return a function that waits for it, or renders it here if the pool broke.

    A pool cannot start from a program read from standard input, and loses workers when memory
    runs out.
    """
    render = partial(_render_chunk, person, chunk, size_px)
    try:
        future = pool.submit(render)
    except BrokenProcessPool:
        return render

    def wait() -> list[RenderedFrame]:
        try:
            return future.result()
        except BrokenProcessPool:
            return render()

    return wait


def _chunks(scenes: Iterator[SceneParams]) -> Iterator[Sequence[SceneParams]]:
    while chunk := tuple(islice(scenes, CHUNK)):
        yield chunk


def _render_chunk(
    person: Person, scenes: Sequence[SceneParams], size_px: int
) -> list[RenderedFrame]:
    head_model = HeadModel.from_person(person)
    return [render_frame(head_model, scene, size_px) for scene in scenes]


def init_worker() -> None:
    """Limit a worker to one core, and leave Ctrl-C to the process that started it."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
