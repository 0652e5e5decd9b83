"""Evaluate: measure a swapped video against its original, frame by frame.

The entry points are `evaluate_and_write` for sets of a workspace, and `evaluate`.
"""

from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import write_document, write_text
from faceswap_cli.core.lock import folder_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.comparison_video import comparison_player
from faceswap_cli.evaluation.evaluation import Evaluation
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FramePair
from faceswap_cli.evaluation.report import render_report
from faceswap_cli.exchange.mask_video import to_black_and_white
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames


def evaluate_and_write(
    swapped: Path,
    *,
    original: Path,
    identity: str,
    distractors: Sequence[str] = (),
    ground_truth: Path | None = None,
    mask: Path | None = None,
    output: Path,
    workspace: Workspace,
    report: Reporter,
) -> tuple[Evaluation, dict[str, str]]:
    """Evaluate a swapped video with sets of a workspace; return the result and its files' paths.

    Args:
        swapped: The swapped video.
        original: The video that it was made from.
        identity: Set of the target identity.
        distractors: Sets of other identities, which the target must be distinguished from.
        ground_truth: A video of the true swap.
        mask: A video that is white where the face was swapped.
        output: Folder of the results.
        workspace: Holds the sets.
        report: Receives the progress.

    Raises:
        ConfigurationError: There is no such set.
        InputError: The folder cannot be written, or another process writes into it.
        FaceswapError: As `evaluate` does.
    """
    for video in filter(None, (swapped, original, ground_truth, mask)):
        probe(video)  # an error in a file's name is reported before one in a set's
    target, *others = [
        FaceSet.from_folder(workspace.require_set(name)) for name in (identity, *distractors)
    ]
    with folder_lock(output):
        evaluation = evaluate(
            swapped,
            source=original,
            identity=target,
            distractors=others,
            truth=ground_truth,
            mask=mask,
            report=report,
        )
        versions = {"original": original, "swapped": swapped}
        if ground_truth:
            versions["true swap"] = ground_truth
        info = probe(original)
        player = comparison_player(
            {name: read_frames(path) for name, path in versions.items()},
            size=info.size,
            rate=info.average_rate,
            swapped=swapped,
            report=report,
        )
        return evaluation, write_evaluation(evaluation, output, player=player)


def evaluate(
    swapped: Path,
    *,
    source: Path,
    identity: FaceSet,
    distractors: Sequence[FaceSet] = (),
    truth: Path | None = None,
    mask: Path | None = None,
    report: Reporter,
) -> Evaluation:
    """Evaluate a swapped video.

    Args:
        swapped: The swapped video.
        source: The original: the same frames, in the same size.
        identity: Faces of the target identity.
        distractors: Faces of other identities, which the target must be distinguished from.
        truth: A video of the true swap.
        mask: A video that is white where the face was swapped; None: inside the face's outline.
        report: Receives the progress.

    Raises:
        InputError: A video cannot be read, or they do not show the same frames.
        NoFacesError: There is no face in the original, or in a set.
    """
    copies = list(filter(None, (swapped, truth, mask)))
    for path in copies:
        _check_same_size(path, source)
    report.start_task("reading time stamps", total=None, unit="frames")
    times = _frame_times(source)
    for path in copies:
        _check_same_frames(path, source, times)
    return evaluate_frames(
        _read_frame_pairs(source, swapped, truth, mask),
        names=(swapped.name, source.name),
        frame_count=len(times),
        identity=identity,
        distractors=distractors,
        report=report,
    )


def write_evaluation(evaluation: Evaluation, folder: Path, *, player: str = "") -> dict[str, str]:
    """Write evaluation.json and evaluation.html into `folder`; return their paths by content.

    Args:
        evaluation: The results.
        folder: Receives both files.
        player: Part of the page that shows the videos.
    """
    numbers, page = folder / "evaluation.json", folder / "evaluation.html"
    write_document(numbers, evaluation.to_dict())
    write_text(page, render_report(evaluation, player=player))
    return {"numbers": str(numbers), "page": str(page)}


def _check_same_size(path: Path, source: Path) -> None:
    """Refuse a video of another frame size.

    Raises:
        InputError: The sizes differ.
    """
    (width, height), (source_width, source_height) = probe(path).size, probe(source).size
    if (width, height) != (source_width, source_height):
        raise InputError(
            f"{path.name} is {width} x {height} px, and {source.name} is "
            f"{source_width} x {source_height}",
            hint="compare a swapped video with the one it was made from",
        )


def _check_same_frames(path: Path, source: Path, source_times: Sequence[float]) -> None:
    """Refuse a video whose frames cannot be paired with the source's in order.

    Times count from the first frame: a conversion of a part begins at 0, so that its time stamps
    do not show which part of the source it is.

    Raises:
        InputError: The numbers of frames, or the times of two frames, differ.
    """
    times = _frame_times(path)
    if len(times) != len(source_times):
        raise InputError(
            f"{path.name} has {len(times):,} frames, and {source.name} has {len(source_times):,}",
            hint="compare a swapped video with exactly the footage it was made from; if it was "
            "made with --start or --end, cut the original in the same way",
        )
    tolerance = 0.5 / float(probe(source).average_rate)
    apart = np.flatnonzero(np.abs(np.subtract(times, source_times)) > tolerance)
    if apart.size:
        index = int(apart[0])
        raise InputError(
            f"frame {index} is shown after {times[index]:.3f} s in {path.name}, and after "
            f"{source_times[index]:.3f} s in {source.name}",
            hint="compare a swapped video with the one it was made from",
        )


def _frame_times(path: Path) -> list[float]:
    """Return when each frame is shown, seconds after the first; decodes the video once."""
    times = [frame.time for frame in read_frames(path)]
    return [float(time - times[0]) for time in times]


def _read_frame_pairs(
    source: Path, swapped: Path, truth: Path | None, mask: Path | None
) -> Iterator[FramePair]:
    """Yield the frames of the videos in pairs, with the true swap's and the mask's if there are."""
    rest = [repeat(None) if path is None else read_frames(path) for path in (truth, mask)]
    videos = zip(read_frames(source), read_frames(swapped), strict=True)
    for (original, other), true, area in zip(videos, *rest, strict=False):
        yield FramePair(
            time=float(original.time),
            original=original.image,
            swapped=other.image,
            truth=true.image if true else None,
            swapped_area=to_black_and_white(area.image) if area else None,
        )
