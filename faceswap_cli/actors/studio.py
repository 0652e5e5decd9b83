"""Draw many moments in order on several cores; what a drawing is, is `render`'s business."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice

import cv2

from faceswap_cli.actors.identity import Person
from faceswap_cli.actors.performance import Moment
from faceswap_cli.actors.render import Actor, Drawing, draw

CHUNK = 8
"""Moments a worker draws before it reports back."""

_WORTH_STARTING = 12 * CHUNK
"""With fewer moments than this, drawing here is over before a second process is awake."""


def draw_all(
    person: Person, moments: Iterable[Moment], *, size_px: int, processes: int | None = None
) -> Iterator[Drawing]:
    """Draw `person` at each moment, in order, the same bytes as drawing them one by one.

    Only a few chunks are in memory at any time, however many moments there are. The workers are
    fresh processes (`spawn`: safe beside threads and CUDA), so a script that calls this needs the
    usual `if __name__ == "__main__":`.

    Args:
        person: Whom to draw.
        moments: What they do.
        size_px: Side of the pictures.
        processes: How many to use; 1 stays in this one; by default one a core, if there are
            moments enough to be worth their start.
    """
    chunks = _chunks(iter(moments))
    first = list(islice(chunks, _WORTH_STARTING // CHUNK))
    if processes is None:
        many = len(first) * CHUNK >= _WORTH_STARTING
        processes = (os.cpu_count() or 1) if many else 1
    if processes == 1:
        actor = Actor.of(person)
        for chunk in chain(first, chunks):
            yield from (draw(actor, moment, size_px) for moment in chunk)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_settle) as pool:
        waiting: deque[Future[list[Drawing]]] = deque()
        try:
            for chunk in chain(first, chunks):
                waiting.append(pool.submit(_draw_chunk, person, chunk, size_px))
                if len(waiting) > 2 * processes:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _chunks(moments: Iterator[Moment]) -> Iterator[Sequence[Moment]]:
    while chunk := tuple(islice(moments, CHUNK)):
        yield chunk


def _draw_chunk(person: Person, moments: Sequence[Moment], size_px: int) -> list[Drawing]:
    actor = Actor.of(person)
    return [draw(actor, moment, size_px) for moment in moments]


def _settle() -> None:
    """Keep a worker to its core, and leave Ctrl-C to the process that started it."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
