"""Where finished frames go, in sittings: signed and named when all of them are there.

Everything unfinished lies in one folder beside the output, by which a stopped run goes on. What
is put together there is signed before it gets its final name.
"""

import shutil
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap_cli.errors import InputError
from faceswap_cli.files import explained, flush, refuse_unwritable
from faceswap_cli.provenance.claim import Claim, comment
from faceswap_cli.provenance.credentials import sign
from faceswap_cli.provenance.sidecar import sidecar_path, write_sidecar
from faceswap_cli.swap.clip import Clip
from faceswap_cli.swap.flow import Finished
from faceswap_cli.swap.settings import ConvertSettings
from faceswap_cli.video.containers import FORMS, codec_for
from faceswap_cli.video.footage import PICTURES, Film
from faceswap_cli.video.work import Unfinished, begin
from faceswap_cli.video.writer import refuse_target


def usual_name(source: Path) -> str:
    """Return what is made of `source` is called: in its own form where that can be written."""
    if source.is_dir():
        return f"{source.resolve().name}-swapped"
    form = source.suffix.lower()
    return f"{source.stem}-swapped{form if form in FORMS or form in PICTURES else '.mp4'}"


def parts_folder(output: Path) -> Path:
    """Return where the unfinished parts of an output lie."""
    return output.with_name(f"{output.name}.parts")


@dataclass(frozen=True, kw_only=True, eq=False)
class Output:
    """What a clip becomes: a video, a picture, or a folder of pictures."""

    path: Path
    clip: Clip
    work: Unfinished
    settings: ConvertSettings

    @classmethod
    def begun(cls, path: Path, clip: Clip, *, key: str, settings: ConvertSettings) -> "Output":
        """Return an output that goes on where one of the same key stopped.

        Raises:
            InputError: Its name does not fit what is converted, or the folder cannot be written.
            ConfigurationError: The codec does not fit the name.
        """
        work = begin(
            clip.footage,
            path,
            folder=parts_folder(path) / "frames",
            key=key,
            codec=settings.codec,
            quality=settings.quality,
            hardware=settings.hardware,
            side_by_side=settings.side_by_side,
        )
        return cls(path=path, clip=clip, work=work, settings=settings)

    def write(self, frame: Finished) -> None:
        """Add the next frame."""
        if self.settings.side_by_side:
            both = np.concatenate([frame.frame.image, frame.image], axis=1)
            self.work.write(both, frame.frame.time)
            return
        source = frame.frame
        self.work.write(frame.view, source.time, original=source.original, changed=frame.changed)

    def deliver(self, claim: Claim, *, swapped: Set[int]) -> Sequence[str]:
        """Put everything together, signed; return what could not be kept, one line each.

        Args:
            claim: What was done; of pictures, to all of them.
            swapped: The numbers of the frames with another face: other pictures stay as they are.
        """
        footage = self.clip.footage
        whole = parts_folder(self.path) / "finished" / self.path.name
        notes = self.work.join(
            whole,
            source=footage.path if isinstance(footage, Film) else None,
            part=self.clip.is_part,
            titles={"comment": comment()} if self.settings.credentials else {},
        )
        for made, name, source in self._files(whole, swapped):
            signs = self.settings.credentials and source is not None
            is_signed = signs and sign(made, claim, source=source)
            _give_name(made, name)
            sidecar_path(name).unlink(missing_ok=True)  # it would speak of an older file
            if signs and (not is_signed or name == self.path):
                write_sidecar(name, claim)
        return notes

    def _files(self, whole: Path, swapped: Set[int]) -> list[tuple[Path, Path, Path | None]]:
        """Return every file, what it is to be called, and what it was made of if that changed."""
        footage = self.clip.footage
        if isinstance(footage, Film):
            return [(whole, self.path, footage.path)]
        changed = {
            path.stem: path for number, path in enumerate(footage.paths) if number in swapped
        }
        if not whole.is_dir():
            return [(whole, self.path, footage.paths[0])]
        made = sorted(whole.iterdir())
        return [(one, self.path / one.name, changed.get(one.stem)) for one in made]

    def clear(self) -> None:
        """Remove what was kept to go on by."""
        shutil.rmtree(parts_folder(self.path), ignore_errors=True)


def refuse_name(path: Path, clip: Clip, settings: ConvertSettings) -> None:
    """Refuse an output that cannot become of a clip, before any work.

    Raises:
        InputError: It would overwrite what is read, its name does not fit, or nothing can be
            written there.
        ConfigurationError: The codec does not fit the name.
    """
    footage = clip.footage
    refuse_unwritable(path)
    if isinstance(footage, Film):
        refuse_target(path, footage.path)
        codec_for(path, settings.codec)
    elif path.is_dir() and any(path.samefile(one.parent) for one in footage.paths):
        raise InputError(
            f"{path} is the folder of the pictures themselves",
            hint="choose another folder with --output",
        )
    elif len(footage.paths) == 1 and path.suffix:
        refuse_target(path, footage.paths[0])


def _give_name(whole: Path, name: Path) -> None:
    """Let a whole file appear under its final name in one step."""
    with explained(name):
        name.parent.mkdir(parents=True, exist_ok=True)
        flush(whole)
        whole.replace(name)
        flush(name.parent)
