"""Where finished frames go, in sittings: signed and named when all of them are there.

Everything unfinished lies in one folder beside the output, by which a stopped run goes on. What
is put together there is signed before it gets its final name.
"""

import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.pipeline import OutputFrame
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.fileio import fsync, translate_os_errors
from faceswap_cli.provenance.claim import Claim, metadata_comment
from faceswap_cli.provenance.credentials import sign_file
from faceswap_cli.provenance.sidecar import sidecar_path, write_sidecar
from faceswap_cli.video.containers import CONTAINER_FORMATS
from faceswap_cli.video.resumable import ResumableOutput, open_output
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.source import IMAGE_SUFFIXES, VideoSource


def default_output_name(source: Path) -> str:
    """Return what is made of `source` is called: in its own form where that can be written."""
    if source.is_dir():
        return f"{source.resolve().name}-swapped"
    form = source.suffix.lower()
    return f"{source.stem}-swapped{form if form in CONTAINER_FORMATS or form in IMAGE_SUFFIXES else '.mp4'}"


def parts_folder(output: Path) -> Path:
    """Return where the unfinished parts of an output lie."""
    return output.with_name(f"{output.name}.parts")


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """What a clip becomes: a video, a picture, or a folder of pictures."""

    path: Path
    clip: Clip
    writer: ResumableOutput
    settings: ConvertSettings

    @classmethod
    def open(cls, path: Path, clip: Clip, *, key: str, settings: ConvertSettings) -> "Output":
        """Return an output that goes on where one of the same key stopped.

        Raises:
            InputError: The folder cannot be written.
        """
        work = open_output(
            clip.source,
            path,
            folder=parts_folder(path) / "frames",
            key=key,
            codec=settings.codec,
            quality=settings.quality,
            hardware=settings.hwaccel,
            side_by_side=settings.side_by_side,
        )
        return cls(path=path, clip=clip, writer=work, settings=settings)

    def write(self, frame: OutputFrame) -> None:
        """Add the next frame."""
        if self.settings.side_by_side:
            both = np.concatenate([frame.frame.image, frame.image], axis=1)
            self.writer.write(both, frame.frame.time)
            return
        source = frame.frame
        self.writer.write(
            frame.view, source.time, original=source.original, changed=frame.changed_areas
        )

    def finalize(self, claim: Claim, *, swapped_frames: Set[int]) -> Sequence[str]:
        """Put everything together, signed; return what could not be kept, one line each.

        Args:
            claim: What was done; of pictures, to all of them.
            swapped_frames: The numbers of the frames with another face: other pictures stay as they are.
        """
        footage = self.clip.source
        whole = parts_folder(self.path) / "finished" / self.path.name
        if isinstance(self.writer, SegmentedWriter) and isinstance(footage, VideoSource):
            notes = self.writer.finalize(
                whole,
                source=footage.path,
                is_part=self.clip.is_trimmed,
                metadata={"comment": metadata_comment()} if self.settings.credentials else {},
            )
        else:
            notes = self.writer.finalize(whole)
        for made, name, source in self._output_files(whole, swapped_frames):
            signs = self.settings.credentials and source is not None
            is_signed = signs and sign_file(made, claim, source=source)
            _publish(made, name)
            sidecar_path(name).unlink(missing_ok=True)  # it would speak of an older file
            if signs and (not is_signed or name == self.path):
                write_sidecar(name, claim)
        if not self.settings.credentials:
            return [*notes, "the output is unsigned (--no-credentials)"]
        if not claim.consent:
            missing = "no consent is recorded for some of the identities this model was trained on"
            return [*notes, f"{missing}: see extract --consent"]
        return notes

    def _output_files(
        self, finished: Path, swapped_frames: Set[int]
    ) -> list[tuple[Path, Path, Path | None]]:
        """Return every file, what it is to be called, and what it was made of if that changed."""
        footage = self.clip.source
        if isinstance(footage, VideoSource):
            return [(finished, self.path, footage.path)]
        changed = {
            path.stem: path for number, path in enumerate(footage.paths) if number in swapped_frames
        }
        if not finished.is_dir():
            return [(finished, self.path, footage.paths[0])]
        made = sorted(finished.iterdir())
        return [(one, self.path / one.name, changed.get(one.stem)) for one in made]

    def cleanup(self) -> None:
        """Remove what was kept to go on by."""
        shutil.rmtree(parts_folder(self.path), ignore_errors=True)


def _publish(finished: Path, target: Path) -> None:
    """Let a whole file appear under its final name in one step."""
    with translate_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        fsync(finished)
        finished.replace(target)
        fsync(target.parent)
