"""Open: the page that shows a run, a set or a swapped file, made first where there is none.

The entry point is `find_page`.
"""

from pathlib import Path

from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.finished import FinishedLog
from faceswap_cli.core.config import Recipe, read_recipe_file
from faceswap_cli.core.errors import ConfigurationError, InputError, did_you_mean
from faceswap_cli.core.fileio import fit_name, write_text
from faceswap_cli.core.lock import output_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.comparison_video import comparison_player
from faceswap_cli.pages.html_page import build_page
from faceswap_cli.stages.faces import inspect_sets
from faceswap_cli.training.report import write_run_report
from faceswap_cli.video.reader import read_frames

VIEWABLE = (".html", ".htm", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg")
"""Ends of the names of files that a browser shows as they are."""


def find_page(
    target: str, *, original: Path | None = None, workspace: Workspace, report: Reporter
) -> Path:
    """Return the page to open.

    Args:
        target: A run's name or `latest`, a set's name, or the path of a page, of an image, of a
            swapped video or of a folder with a report.
        original: The video that a swapped one was made from; None: what `convert` has noted.
        workspace: Holds the runs and sets.
        report: Receives progress.

    Returns:
        A file that a browser shows.

    Raises:
        ConfigurationError: There is no such run, set or file.
        InputError: The original of a video is not known, or a file cannot be read.
        NoFacesError: The set has no crops.
    """
    path = Path(target)
    if target in (*_run_names(workspace), "latest"):
        return _run_page(_latest_run(workspace) if target == "latest" else target, workspace)
    if target in workspace.set_names():
        return _set_page(target, workspace, report)
    if path.is_dir() and (path / "report.html").exists():
        return path / "report.html"
    if path.suffix.lower() in VIEWABLE and path.is_file():
        return path
    if path.is_file():
        return _video_page(path, original, report)
    names = [*_run_names(workspace), *workspace.set_names()]
    raise ConfigurationError(
        f'there is no run, set or file called "{target}"',
        hint=did_you_mean(target, names)
        or "name a run, a set, a swapped video or a page: faceswap open latest",
    )


def _run_names(workspace: Workspace) -> list[str]:
    """Return the names of all runs, also of one that has no weights yet."""
    return sorted(path.parent.name for path in workspace.root.glob("runs/*/recipe.toml"))


def _latest_run(workspace: Workspace) -> str:
    """Return the run that was written to last.

    Raises:
        ConfigurationError: There is none.
    """
    names = _run_names(workspace)
    if not names:
        return workspace.latest_run().name
    return max(names, key=lambda name: workspace.run_folder(name).root.stat().st_mtime_ns)


def _run_page(name: str, workspace: Workspace) -> Path:
    """Return a run's page, made now if training has not written one yet."""
    run = workspace.run_folder(name)
    if not run.report.exists():
        recipe = Recipe.from_dict(read_recipe_file(run.recipe))
        write_run_report(run, recipe, is_training=False)
    return run.report


def _set_page(name: str, workspace: Workspace, report: Reporter) -> Path:
    """Return a set's page, made again if its records or its crops have changed since."""
    folder, page = workspace.require_set(name), workspace.faces_page(name)
    changed = max(path.stat().st_mtime for path in (folder.root, folder.records))
    if not page.exists() or page.stat().st_mtime < changed:
        inspect_sets([name], workspace=workspace, report=report)
    return page


def _video_page(video: Path, original: Path | None, report: Reporter) -> Path:
    """Return a swapped video's evaluation, or a page with a before/after player.

    Raises:
        InputError: The original is not known, or the frames do not fit.
    """
    modified = video.stat().st_mtime
    evaluation = video.with_name(fit_name(video.stem, "-evaluation")) / "evaluation.html"
    if evaluation.exists() and evaluation.stat().st_mtime >= modified:
        return evaluation
    page = video.with_name(fit_name(video.stem, ".html"))
    clip = _open_original(video, original)
    with output_lock(page):
        player = comparison_player(
            {"original": clip.frames(note=report.note), "swapped": read_frames(video)},
            size=clip.size,
            rate=clip.source.average_rate,
            swapped=video,
            report=report,
        )
        about = f"made from {clip.source.name}"
        write_text(page, build_page(video.name, about, [player]))
    return page


def _open_original(video: Path, original: Path | None) -> Clip:
    """Return the clip that a video was made from.

    Raises:
        InputError: It is not known, or gone.
    """
    if original is not None:
        return Clip.open(original)
    clip = FinishedLog(video.parent).clip(video)
    source = Path(str(clip.get("source", "")))
    if "source" not in clip or not source.exists():
        gone = f": {source} is gone" if "source" in clip else ""
        raise InputError(
            f"the video that {video.name} was made from is not known{gone}",
            hint=f"name it: faceswap open {video} --original FILE",
        )
    return Clip.open(source, start_s=float(clip["start_s"]), end_s=clip["end_s"])
