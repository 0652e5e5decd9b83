"""Synthetic clips: `render_clip` writes one to a file, `render_true_swap` yields its true swap."""

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
    """Render a person's performance with its sound into a video."""
    report.start_task(f"rendering {path.stem}", total=len(performance.scenes), unit="frames")
    sound = AudioTrack(samples=synthetic.synthesize_voice(performance), rate_hz=48_000)
    with VideoWriter(path, size=(side_px, side_px), rate=performance.rate, audio=sound) as video:
        for index, frame in enumerate(
            synthetic.render_frames(person, performance.scenes, size_px=side_px)
        ):
            video.write(frame.image, index / performance.rate)
            report.update(index + 1)


def render_true_swap(
    driving: synthetic.Person,
    target: synthetic.Person,
    performance: synthetic.Animation,
    *,
    side_px: int,
) -> Iterator[synthetic.RenderedFrame]:
    """Render the target's face on the driving head, with the skin of the driving person.

    A swap that keeps the scene's colors should have that skin: neck and ears are not swapped.
    """
    person = target.with_skin_of(driving).on_head_of(driving)
    return synthetic.render_frames(person, performance.scenes, size_px=side_px)
