"""Draw many moments in order on several cores; what a drawing is, is `render`'s business."""

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
"""Moments a worker draws before it reports back."""

_WORTH_STARTING = 12 * CHUNK
"""With fewer moments than this, drawing here is over before a second process is awake."""


def render_frames(
    person: Person, scenes: Iterable[SceneParams], *, size_px: int, processes: int | None = None
) -> Iterator[RenderedFrame]:
    """Draw `person` at each moment, in order, the same bytes as drawing them one by one.

    Only a few chunks are in memory at any time, however many moments there are. The workers are
    fresh processes (`spawn`: safe beside threads and CUDA), so a script that calls this needs the
    usual `if __name__ == "__main__":`.

    Args:
        person: Whom to draw.
        scenes: What they do.
        size_px: Side of the pictures.
        processes: How many to use; 1 stays in this one; by default one a core, if there are
            moments enough to be worth their start.
    """
    chunks = _chunks(iter(scenes))
    first = list(islice(chunks, _WORTH_STARTING // CHUNK))
    if processes is None:
        many = len(first) * CHUNK >= _WORTH_STARTING
        processes = (os.cpu_count() or 1) if many else 1
    if processes == 1:
        for chunk in chain(first, chunks):
            yield from _render_chunk(person, chunk, size_px)
    else:
        yield from _render_in_parallel(person, chain(first, chunks), size_px, processes)


def _render_in_parallel(
    person: Person, chunks: Iterable[Sequence[SceneParams]], size_px: int, processes: int
) -> Iterator[RenderedFrame]:
    """Draw chunks in worker processes, a few ahead of what has been asked for."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_init_worker) as pool:
        waiting: deque[Callable[[], list[RenderedFrame]]] = deque()
        try:
            for chunk in chunks:
                waiting.append(_submit_chunk(pool, person, chunk, size_px))
                if len(waiting) > 2 * processes:
                    yield from waiting.popleft()()
            while waiting:
                yield from waiting.popleft()()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _submit_chunk(
    pool: ProcessPoolExecutor, person: Person, chunk: Sequence[SceneParams], size_px: int
) -> Callable[[], list[RenderedFrame]]:
    """Ask the pool for a chunk; return what waits for it, or draws it here if the pool died.

    A pool cannot start from a program read from standard input, and loses workers when memory
    runs out.
    """
    here = partial(_render_chunk, person, chunk, size_px)
    try:
        future = pool.submit(here)
    except BrokenProcessPool:
        return here

    def wait() -> list[RenderedFrame]:
        try:
            return future.result()
        except BrokenProcessPool:
            return here()

    return wait


def _chunks(scenes: Iterator[SceneParams]) -> Iterator[Sequence[SceneParams]]:
    while chunk := tuple(islice(scenes, CHUNK)):
        yield chunk


def _render_chunk(
    person: Person, scenes: Sequence[SceneParams], size_px: int
) -> list[RenderedFrame]:
    actor = HeadModel.from_person(person)
    return [render_frame(actor, moment, size_px) for moment in scenes]


def _init_worker() -> None:
    """Keep a worker to its core, and leave Ctrl-C to the process that started it."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
