"""Drawn clips as files, and the true swap of any of them."""

from collections.abc import Iterator
from pathlib import Path

from faceswap_cli import actors
from faceswap_cli.report import Reporter
from faceswap_cli.video.writer import Sound, VideoWriter


def draw_clip(
    path: Path,
    person: actors.Person,
    take: actors.Performance,
    *,
    side_px: int,
    report: Reporter,
) -> None:
    """Draw a person's performance with its sound into a video."""
    report.stage(f"drawing {path.stem}", total=len(take.moments), unit="frames")
    sound = Sound(samples=actors.speak(take), rate_hz=48_000)
    with VideoWriter(path, size=(side_px, side_px), rate=take.rate, sound=sound) as video:
        for index, drawing in enumerate(actors.draw_all(person, take.moments, size_px=side_px)):
            video.write(drawing.image, index / take.rate)
            report.advance(index + 1)


def true_swap(
    driving: actors.Person, wanted: actors.Person, take: actors.Performance, *, side_px: int
) -> Iterator[actors.Drawing]:
    """Draw the wanted face on the driving head, in the driving person's skin.

    In the driving person's skin, because that is what a swap that keeps the scene's colours should
    come to: the neck and the ears stay who they were.
    """
    person = wanted.with_skin_of(driving).on_head_of(driving)
    return actors.draw_all(person, take.moments, size_px=side_px)
