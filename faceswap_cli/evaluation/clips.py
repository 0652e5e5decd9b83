"""Drawn clips as files, and the true swap of any of them."""

from collections.abc import Iterator
from pathlib import Path

from faceswap_cli import synthetic
from faceswap_cli.core.progress import Reporter
from faceswap_cli.video.writer import AudioTrack, VideoWriter


def render_clip(
    path: Path,
    person: synthetic.Person,
    performance: synthetic.Animation,
    *,
    side_px: int,
    report: Reporter,
) -> None:
    """Draw a person's performance with its sound into a video."""
    report.start_task(f"drawing {path.stem}", total=len(performance.scenes), unit="frames")
    sound = AudioTrack(samples=synthetic.synthesize_voice(performance), rate_hz=48_000)
    with VideoWriter(path, size=(side_px, side_px), rate=performance.rate, audio=sound) as video:
        for index, drawing in enumerate(
            synthetic.render_frames(person, performance.scenes, size_px=side_px)
        ):
            video.write(drawing.image, index / performance.rate)
            report.update(index + 1)


def render_true_swap(
    driving: synthetic.Person,
    target: synthetic.Person,
    performance: synthetic.Animation,
    *,
    side_px: int,
) -> Iterator[synthetic.RenderedFrame]:
    """Draw the wanted face on the driving head, in the driving person's skin.

    In the driving person's skin, because that is what a swap that keeps the scene's colours should
    come to: the neck and the ears stay who they were.
    """
    person = target.with_skin_of(driving).on_head_of(driving)
    return synthetic.render_frames(person, performance.scenes, size_px=side_px)
