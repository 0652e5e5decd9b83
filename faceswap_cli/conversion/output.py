"""The output of a conversion: written resumably, signed and renamed when it is complete.

Unfinished parts are in a folder beside the output, from which an interrupted run resumes. `Output`
assembles and signs the result there before it appears under its final name.
"""

import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.pipeline import OutputFrame
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import (
    fit_name,
    fsync,
    make_folder,
    remove_temp_files,
    translate_os_errors,
)
from faceswap_cli.provenance.claim import Claim, metadata_comment
from faceswap_cli.provenance.credentials import sign_file
from faceswap_cli.provenance.sidecar import sidecar_path, write_sidecar
from faceswap_cli.video.containers import CONTAINER_FORMATS
from faceswap_cli.video.resumable import ResumableOutput, open_output
from faceswap_cli.video.segments import ALL_FRAMES, FrameRange, SegmentedWriter
from faceswap_cli.video.source import IMAGE_SUFFIXES, FrameSource, ImageSequence, VideoSource


def default_output_name(source: VideoSource | ImageSequence) -> str:
    """Return the output's name: that of a folder for several images, else with a suffix.

    It is the source's suffix if that can be written, or `.mp4`.
    """
    if isinstance(source, VideoSource):
        suffix = source.path.suffix.lower()
        suffix = suffix if suffix in CONTAINER_FORMATS else ".mp4"
        return fit_name(source.path.stem, f"-swapped{suffix}")
    first = source.paths[0]
    if len(source.paths) == 1 and source.name == first.name:  # not that of a folder with one image
        return fit_name(first.stem, f"-swapped{first.suffix.lower()}")
    return fit_name(source.folder.resolve().name, "-swapped")


def assign_outputs(
    sources: Sequence[FrameSource], output: Path, *, is_folder: bool
) -> list[tuple[FrameSource, Path]]:
    """Return the sources with the path that each is written to.

    A source that is named twice is converted once, and a video that is the output of another one
    is left out: `*.mp4` matches the results of the last time too.

    Args:
        sources: What is converted.
        output: The output of the only source, or the folder of all outputs.
        is_folder: Whether it is the folder. For a single video, an existing folder and a name
            without an extension are one as well.

    Raises:
        ConfigurationError: Two sources would be written to the same path, or all of them to a file.
    """
    suffixes = {*CONTAINER_FORMATS, *IMAGE_SUFFIXES}
    if is_folder and output.suffix.lower() in suffixes and not output.is_dir():
        raise ConfigurationError(
            f"{len(sources)} inputs do not fit into {output.name}",
            hint=f"name a folder: {output.with_suffix('')}",
        )
    unique = {_resolve_files(source): source for source in sources}
    paths = {
        files: _output_path(source, output, is_folder=is_folder) for files, source in unique.items()
    }
    results = list(paths.values())
    if twice := [path for path in results if results.count(path) > 1]:
        raise ConfigurationError(
            f"two inputs would both become {twice[0]}",
            hint="convert one of them by itself, with an --output of its own",
        )
    resolved = {(path.resolve(),) for path in results} if len(unique) > 1 else set()
    return [(unique[files], path) for files, path in paths.items() if files not in resolved]


def _resolve_files(source: FrameSource) -> tuple[Path, ...]:
    """Return the files of a source, which tell it from others."""
    assert isinstance(source, VideoSource | ImageSequence)
    paths = [source.path] if isinstance(source, VideoSource) else source.paths
    return tuple(path.resolve() for path in paths)


def _output_path(source: FrameSource, output: Path, *, is_folder: bool) -> Path:
    """Return `output`, or the path in it if it is a folder of outputs."""
    assert isinstance(source, VideoSource | ImageSequence)
    is_video = isinstance(source, VideoSource)
    if is_folder or (is_video and (output.is_dir() or not output.suffix)):
        return output / default_output_name(source)
    return output


def parts_folder(output: Path) -> Path:
    """Return the folder of an output's unfinished parts."""
    return output.with_name(fit_name(output.name, ".parts"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """A video, an image or a folder of images that is made of a clip."""

    path: Path
    clip: Clip
    writer: ResumableOutput
    settings: ConvertSettings

    @classmethod
    def open(
        cls,
        path: Path,
        clip: Clip,
        *,
        key: str,
        settings: ConvertSettings,
        frames: FrameRange = ALL_FRAMES,
    ) -> "Output":
        """Return a new output, or resume an unfinished one with the same key.

        Args:
            path: Its final path.
            clip: What it is made of.
            key: Digest of all that decides what its frames show.
            settings: How it is encoded.
            frames: The frames that will be written; of a video, they may be a part.

        Raises:
            InputError: The folder cannot be written.
        """
        writer = open_output(
            clip.source,
            path,
            folder=parts_folder(path) / "frames",
            key=key,
            codec=settings.codec,
            quality=settings.quality,
            hardware=settings.hwaccel,
            side_by_side=settings.side_by_side,
            frames=frames,
        )
        return cls(path=path, clip=clip, writer=writer, settings=settings)

    def write(self, frame: OutputFrame) -> None:
        """Add the next frame."""
        original = frame.frame
        if self.settings.side_by_side:
            both = np.concatenate([original.image, frame.image], axis=1)
            self.writer.write(both, original.time)
            return
        self.writer.write(
            frame.view, original.time, original=original.original, changed=frame.changed_areas
        )

    def finalize(self, claim: Claim, *, swapped_frames: Set[int]) -> Sequence[str]:
        """Assemble, sign and publish the output; return notes for the user, one line each.

        Args:
            claim: What it is signed with; of images, all of them together.
            swapped_frames: Indices of frames with a swapped face; other images are not signed.
        """
        source = self.clip.source
        finished = parts_folder(self.path) / "finished" / self.path.name
        if isinstance(self.writer, SegmentedWriter) and isinstance(source, VideoSource):
            notes = self.writer.finalize(
                finished,
                source=source.path,
                is_part=self.clip.is_trimmed,
                metadata={"comment": metadata_comment()} if self.settings.credentials else {},
            )
        else:
            notes = self.writer.finalize(finished)
        for made, target, changed_from in self._output_files(finished, swapped_frames):
            signs = self.settings.credentials and changed_from is not None
            is_signed = signs and sign_file(made, claim, source=changed_from)
            with translate_os_errors(target):
                _publish(made, target)
                sidecar_path(target).unlink(missing_ok=True)  # it described an older file
                if signs and (not is_signed or target == self.path):
                    write_sidecar(target, claim)
        if not self.settings.credentials:
            return [*notes, "the output is unsigned (--no-credentials)"]
        return notes

    def _output_files(
        self, finished: Path, swapped_frames: Set[int]
    ) -> list[tuple[Path, Path, Path | None]]:
        """Return each file, its final path, and the file that it was changed from, if it was."""
        source = self.clip.source
        if isinstance(source, VideoSource):
            return [(finished, self.path, source.path)]
        if not finished.is_dir():
            return [(finished, self.path, source.paths[0])]
        names = source.relative_paths
        changed = {
            names[index]: path for index, path in enumerate(source.paths) if index in swapped_frames
        }
        made = sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
        return [(finished / name, self.path / name, changed.get(name)) for name in made]

    def cleanup(self) -> None:
        """Remove the unfinished parts, and what a killed process left."""
        remove_temp_files(sidecar_path(self.path))
        shutil.rmtree(parts_folder(self.path), ignore_errors=True)


def _publish(finished: Path, target: Path) -> None:
    """Move a finished file to its final name in one step."""
    with translate_os_errors(target):
        make_folder(target.parent)
        fsync(finished)
        finished.replace(target)
        fsync(target.parent)
