"""Import: the people of a data set in the layout of FaceForensics++, with pairs, masks and splits.

Each person of a pair becomes a set, extracted from the source video; what a method's mask video
marks in that video becomes the masks of the set's crops.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.core.lock import set_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.exchange.mask_video import write_masks
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.provenance.consent import AskConsent, ConsentChoice
from faceswap_cli.stages.extract import extract, note_consent
from faceswap_cli.video.faceforensics import (
    SwapPair,
    find_methods,
    find_pairs,
    find_source_videos,
    mask_video,
)
from faceswap_cli.video.source import VideoSource

FORMAT = "FaceForensics++"
DEFAULT_METHOD = "Deepfakes"
"""Method whose masks are imported."""


@dataclass(frozen=True, kw_only=True)
class PersonSummary:
    """A person of a data set, as a set."""

    name: str
    """The set."""
    faces: int
    masks: int
    """Crops with a mask."""
    partner: str
    """The set whose face this one got in the data set."""
    split: str
    """`train`, `val` or `test`; empty if no list has the pair."""
    folder: Path
    """The set's folder."""


def import_faceforensics(
    path: Path,
    *,
    workspace: Workspace,
    settings: ExtractSettings,
    report: Reporter,
    method: str | None = None,
    split: str | None = None,
    consent: str | None = None,
    ask_consent: AskConsent | None = None,
    detector: Callable[[], FaceDetector] | None = None,
) -> list[PersonSummary]:
    """Make a set of each person in a data set's pairs, or resume doing so.

    Args:
        path: The data set's folder.
        workspace: Holds the sets.
        settings: How crops are made.
        report: Receives progress and notes.
        method: Method whose masks are imported; None: Deepfakes, or else the first with masks.
        split: Only pairs of this list: `train`, `val` or `test`; None: all.
        consent: `KIND` or `KIND: NOTE`, recorded in each set; None: the workspace's, if any.
        ask_consent: Asks for the workspace's; called once a workspace.
        detector: Makes the detector, in place of the one that the settings name.

    Raises:
        ConfigurationError: There is no such method or list.
        InputError: The data set has no pairs with videos.
        NoFacesError: No video has a face.
        FaceswapError: As `extract` does.
    """
    method = _choose_method(method, find_methods(path))
    videos = {video.stem: video for video in find_source_videos(path)}
    pairs = [pair for pair in _choose_pairs(find_pairs(path), split) if pair.target in videos]
    if not pairs:
        raise InputError(
            f"no pair of {path} has its source videos",
            hint="expected: splits/train.json, and original_sequences/youtube/c23/videos/*.mp4",
        )
    choice = ConsentChoice.resolve(consent, workspace.version_file, ask_consent)
    people = []
    for pair in pairs:
        try:
            person = _import_person(
                VideoSource.open(videos[pair.target]),
                pair,
                masks=mask_video(path, pair, method),
                method=method,
                workspace=workspace,
                settings=settings,
                report=report,
                consent=choice,
                detector=detector or DETECTORS[settings.detector],
            )
        except NoFacesError as error:
            report.note(error.message)
            continue
        people.append(person)
    if not people:
        raise NoFacesError(f"no video of {path} has a face", hint="is it a data set of faces?")
    sources = {one.name: workspace.set_folder(one.name).source for one in people}
    note_consent(choice, workspace, sources, report)
    return people


def people_table(people: Sequence[PersonSummary]) -> tuple[str, list[str], list[list[str]]]:
    """Return title, headings and rows of a table of the people."""
    rows = [[one.name, str(one.faces), str(one.masks), one.partner, one.split] for one in people]
    return "sets", ["set", "faces", "masks", "partner", "split"], rows


def _choose_method(name: str | None, known: Sequence[str]) -> str:
    """Return the method whose masks are imported.

    Raises:
        ConfigurationError: The data set has no masks of that method.
    """
    if name is None:
        return DEFAULT_METHOD if DEFAULT_METHOD in known or not known else known[0]
    if name not in known:
        raise ConfigurationError(
            f'the data set has no masks of a method called "{name}"',
            hint=did_you_mean(name, known) if known else "leave --method out: there are no masks",
        )
    return name


def _choose_pairs(pairs: Sequence[SwapPair], split: str | None) -> list[SwapPair]:
    """Return one pair for each target, of one list or of all.

    Raises:
        ConfigurationError: There is no such list.
    """
    if split is not None and split not in (known := sorted({one.split for one in pairs} - {""})):
        raise ConfigurationError(
            f'the data set has no pairs in a list called "{split}"', hint=did_you_mean(split, known)
        )
    chosen: dict[str, SwapPair] = {}
    for pair in pairs:
        if split in (None, pair.split):
            chosen.setdefault(pair.target, pair)
    return list(chosen.values())


def _import_person(
    video: VideoSource,
    pair: SwapPair,
    *,
    masks: Path,
    method: str,
    workspace: Workspace,
    settings: ExtractSettings,
    report: Reporter,
    consent: ConsentChoice,
    detector: Callable[[], FaceDetector],
) -> PersonSummary:
    """Extract a person's source video, and cut the masks of the crops.

    Raises:
        FaceswapError: As `extract` and `write_masks` do.
    """
    folder = workspace.set_folder(pair.target)
    has_masks = masks.is_file()
    facts = {
        "format": FORMAT,
        "partner": pair.source,
        "split": pair.split,
        "method": method if has_masks else "",
    }
    known = {key: value for key, value in facts.items() if value}
    sections = {"import": known, **consent.sections(folder.source)}
    summary = extract(
        [replace(video, partner=pair.source)],
        folder=folder,
        settings=settings,
        report=report,
        extra_sections=sections,
        detector=detector,
    )
    count = 0
    if has_masks:
        with set_lock(folder.root):
            count = write_masks(FaceSet.from_folder(folder), masks, footage_size=video.size)
        if count < summary.faces:
            report.note(f"{masks.name} has masks for {count} of the {summary.faces} faces")
    else:
        report.note(f"{pair.target} has no mask of {method}")
    return PersonSummary(
        name=folder.name,
        faces=summary.faces,
        masks=count,
        partner=pair.source,
        split=pair.split,
        folder=folder.root,
    )
