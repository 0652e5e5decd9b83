"""Import: aligned faces of another program, or photos, as a face set.

The images are extracted again, since our alignment needs our landmarks: in the order of the frames
that they were cut from, and of each image the face in its middle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.exchange.face_files import FaceFile, read_face_file
from faceswap_cli.faces.dataset import read_records
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.faces.set_source import Source
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import Face, FaceDetector
from faceswap_cli.provenance.consent import AskConsent, ConsentChoice
from faceswap_cli.stages.extract import extract, note_consent
from faceswap_cli.video.source import IMAGE_SEQUENCE_FPS, ImageSequence, find_sources

PHOTOS = "photos"
"""What images without face data are."""
MAX_NAMES = 5
"""Images without a face that are named in a note; the result has all of them."""


@dataclass(frozen=True, kw_only=True)
class ImportSummary:
    """The result of an import."""

    name: str
    """The set."""
    format: str
    """Program that wrote the images: `faceswap` or `DeepFaceLab`; or `photos`."""
    images: int
    """Images read."""
    faces: int
    """Faces in the set."""
    not_found: tuple[str, ...]
    """Names of the images in which no face was found."""
    folder: Path
    """The set's folder."""


def import_faces(
    path: Path,
    *,
    name: str | None,
    workspace: Workspace,
    settings: ExtractSettings,
    report: Reporter,
    consent: str | None = None,
    ask_consent: AskConsent | None = None,
    detector: Callable[[], FaceDetector] | None = None,
) -> ImportSummary:
    """Make a set of the images in a folder, or resume doing so.

    Args:
        path: A folder of images, or one image.
        name: The set; None names it after the folder.
        workspace: Holds the set.
        settings: How crops are made.
        report: Receives progress and notes.
        consent: `KIND` or `KIND: NOTE`, recorded in the set; None: the workspace's, if any.
        ask_consent: Asks for the workspace's; called once a workspace.
        detector: Makes the detector, in place of the one that the settings name.

    Raises:
        InputError: There are no images, or one has face data that is damaged or unsafe.
        NoFacesError: No image has a face.
        FaceswapError: As `extract` does.
    """
    sequence = find_images(path)
    known = {image: found for image in sequence.paths if (found := read_face_file(image))}
    sequence = replace(sequence, paths=tuple(sort_by_source(sequence.paths, known)))
    program = next(iter(known.values())).program if known else PHOTOS
    folder = workspace.set_folder(name or sequence.stem)
    choice = ConsentChoice.resolve(consent, workspace.version_file, ask_consent)
    sections: Source = {"import": {"format": program}, **choice.sections(folder.source)}
    make_detector = detector or DETECTORS[settings.detector]
    summary = extract(
        [sequence],
        folder=folder,
        settings=settings,
        report=report,
        extra_sections=sections,
        detector=(lambda: MiddleFaceDetector(make_detector())) if known else make_detector,
    )
    indices = {round(record.time * IMAGE_SEQUENCE_FPS) for record in read_records(folder.records)}
    not_found = [one.name for index, one in enumerate(sequence.paths) if index not in indices]
    if not_found:
        report.note(_describe_not_found(not_found))
    note_consent(choice, workspace, {folder.name: folder.source}, report)
    return ImportSummary(
        name=folder.name,
        format=program,
        images=sequence.count,
        faces=summary.faces,
        not_found=tuple(not_found),
        folder=folder.root,
    )


def find_images(path: Path) -> ImageSequence:
    """Return the images that a path names.

    Raises:
        InputError: It names none, or videos.
    """
    sources = find_sources([path])
    if len(sources) == 1 and isinstance(sources[0], ImageSequence):
        return sources[0]
    raise InputError(
        f"{path} has no images of faces",
        hint=f"for videos and data sets of videos: faceswap extract {path}",
    )


def sort_by_source(paths: Sequence[Path], known: Mapping[Path, FaceFile]) -> list[Path]:
    """Return images in the order of the frames that they were cut from; others at the end."""

    def key(path: Path) -> tuple[bool, tuple[tuple[bool, str | int], ...], str]:
        order = known[path].order if path in known else ()
        return path not in known, tuple((isinstance(one, str), one) for one in order), path.name

    return sorted(paths, key=key)


class MiddleFaceDetector:
    """Detects the face in the middle of an image only: aligned faces have one there.

    Args:
        detector: Detects all faces.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector

    def __enter__(self) -> Self:
        self._detector.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._detector.__exit__(*error)

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the face whose box is nearest to the middle, if there is any."""
        faces = self._detector.detect(image, exclude=exclude)
        return [min(faces, key=lambda face: _distance_to_middle(face, image))] if faces else []

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return those of the faces that are still there."""
        return self._detector.track(view, faces)

    def close(self) -> None:
        """Release the networks."""
        self._detector.close()


def _distance_to_middle(face: Face, image: Image) -> float:
    """Return the distance of a face's middle from the image's, px."""
    height, width = image.shape[:2]
    middle = (face.box[:2] + face.box[2:]) / 2
    return float(np.hypot(*(middle - [(width - 1) / 2, (height - 1) / 2])))


def _describe_not_found(names: Sequence[str]) -> str:
    """Return a line for images without a face."""
    listed = ", ".join(names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES} more, listed by --json" if len(names) > MAX_NAMES else ""
    return f"no face was found in {len(names)} of the images: {listed}{more}"
