"""Layout of the workspace on disk: names of all folders and files."""

import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from faceswap_cli.core.errors import ConfigurationError, InputError, did_you_mean
from faceswap_cli.core.fileio import (
    DIGEST_NOTE,
    MAX_NAME_BYTES,
    add_digest,
    fit_name,
    has_changed,
    write_text,
)

VISIBLE_FACE_WEIGHTS = "visible-face.safetensors"
"""Name of the network that a workspace was taught what covers its faces."""
FORMAT = 1
"""Version of the layout; a newer one on disk is refused, an older one would be migrated."""


@dataclass(frozen=True, kw_only=True)
class SetFolder:
    """Folder of one identity's faces: crops, records, and their source."""

    root: Path

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.root.name

    @property
    def source(self) -> Path:
        """Inputs of the faces with their digests, and the extraction settings."""
        return self.root / "source.toml"

    @property
    def records(self) -> Path:
        """One `FaceRecord` per line, in the order of extraction."""
        return self.root / "faces.jsonl"

    @property
    def rejected(self) -> Path:
        """Folder of crops removed from the set, which can be restored."""
        return self.root / "rejected"

    @property
    def crop_features(self) -> Path:
        """Cached features of the crops; may be deleted at any time."""
        return self.root / "looks.npz"

    @property
    def visible_face_weights(self) -> Path:
        """The workspace's own weights of the network that finds what covers a face, if any."""
        return self.root.parents[1] / VISIBLE_FACE_WEIGHTS

    @property
    def progress(self) -> Path:
        """Progress of an interrupted extraction; deleted when it is finished."""
        return self.root / "progress.json"

    @property
    def previous_progress(self) -> Path:
        """The progress before the last one, should that be damaged."""
        return self.root / "progress-1.json"

    def remove_progress(self) -> None:
        """Remove the progress: the extraction is finished."""
        for path in (self.progress, self.previous_progress):
            path.unlink(missing_ok=True)

    def crop_path(self, frame: int, face: int, *, source: int = 0, kind: str = "png") -> Path:
        """Return the crop of face `face` in frame `frame` of input `source`, all from 0."""
        prefix = f"{source + 1}-" if source else ""
        return self.root / f"{prefix}{frame:06d}-{face}.{kind}"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Folder of one training run: its recipe, log, previews, checkpoints and weights."""

    root: Path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.root.name

    @property
    def recipe(self) -> Path:
        """The resolved settings, each with the source of its value."""
        return self.root / "recipe.toml"

    @property
    def log(self) -> Path:
        """Losses, scores and events, one JSON object per line."""
        return self.root / "log.jsonl"

    @property
    def previews(self) -> Path:
        """Folder of previews named by images seen."""
        return self.root / "previews"

    def preview_path(self, images_seen: int) -> Path:
        """Return the preview after `images_seen` images."""
        return self.previews / f"{images_seen:08d}.png"

    @property
    def growth_stages(self) -> Path:
        """Folder of the previews of a growing network's stages, by number."""
        return self.root / "stages"

    @property
    def growth_strip(self) -> Path:
        """Previews of all stages of a growing network, side by side."""
        return self.root / "stages.png"

    @property
    def cache(self) -> Path:
        """Decoded crops of the sets; may be deleted at any time."""
        return self.root / "cache"

    @property
    def resume(self) -> Path:
        """The checkpoint to resume training from."""
        return self.root / "resume.safetensors"

    @property
    def snapshots(self) -> Path:
        """Folder of the last checkpoints, named by images seen; `resume` is one of them."""
        return self.root / "snapshots"

    def snapshot_path(self, images_seen: int) -> Path:
        """Return the checkpoint after `images_seen` images."""
        return self.snapshots / f"{images_seen:012d}.safetensors"

    @property
    def weights(self) -> Path:
        """Averaged weights with the recipe in the header, for `convert`."""
        return self.root / "weights.safetensors"

    @property
    def best(self) -> Path:
        """The weights whose swaps were best, in the format of `weights`."""
        return self.root / "best.safetensors"

    @property
    def trained(self) -> Path:
        """The best weights, or the last ones of a run that has not found the best yet."""
        return self.best if self.best.exists() else self.weights

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.root / "tensorboard"

    @property
    def report(self) -> Path:
        """HTML page with curves, previews and numbers."""
        return self.root / "report.html"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder of sets, runs and exports that all commands share."""

    root: Path

    @property
    def visible_face_weights(self) -> Path:
        """Its own weights of the network that finds what covers a face, if any."""
        return self.root / VISIBLE_FACE_WEIGHTS

    @classmethod
    def from_path(cls, root: Path) -> "Workspace":
        """Return the workspace at `root`, whether it exists or not; nothing is written.

        Raises:
            InputError: `root` is a file, or holds a workspace that is of a newer format or damaged.
        """
        space = cls(root=root)
        if root.exists() and not root.is_dir():
            raise InputError(
                f"{root} is a file, not a workspace folder",
                hint="choose a folder with --workspace DIR",
            )
        if not space.version_file.exists():
            return space
        try:
            text = space.version_file.read_text(encoding="utf-8")
            found = int(tomllib.loads(text)["format"])
        except (KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InputError(
                f"{space.version_file} cannot be read",
                hint=f"it should hold the line: format = {FORMAT}",
            ) from error
        if has_changed(text):
            raise InputError(
                f"{space.version_file} is damaged: its digest does not match",
                hint="if you changed it yourself, delete its last line and the one about it",
            )
        if found > FORMAT:
            raise InputError(
                f"{root} was made by a newer faceswap (format {found}, this one reads {FORMAT})",
                hint="update faceswap, or choose another folder with --workspace",
            )
        return space

    @classmethod
    def open(cls, root: Path) -> "Workspace":
        """Open the workspace at `root`, creating it if it does not exist.

        Raises:
            InputError: `root` is a file, or holds a workspace of a newer format.
        """
        space = cls.from_path(root)
        if not space.version_file.exists():
            text = f"# faceswap workspace\n{DIGEST_NOTE}\nformat = {FORMAT}\n"
            write_text(space.version_file, add_digest(text))
        return space

    @property
    def version_file(self) -> Path:
        """File with the workspace's format version."""
        return self.root / "workspace.toml"

    @property
    def subfolders(self) -> tuple[Path, ...]:
        """The workspace's folders."""
        return self.root / "faces", self.root / "runs", self.exports

    @property
    def has_content(self) -> bool:
        """Whether any of its folders exists."""
        return any(folder.is_dir() for folder in self.subfolders)

    def remove_empty_folders(self) -> None:
        """Remove its folders, and the workspace itself, if they are empty."""
        for folder in (*self.subfolders, self.root):
            with suppress(OSError):
                folder.rmdir()

    @property
    def exports(self) -> Path:
        """Folder of finished videos."""
        return self.root / "exports"

    @property
    def pairs(self) -> Path:
        """Folder of drawn people for pretraining; may be deleted at any time."""
        return self.root / "pairs"

    def set_folder(self, name: str) -> SetFolder:
        """Return the folder of the set `name`, whether it exists or not."""
        return SetFolder(root=self.root / "faces" / validate_name(name))

    def faces_page(self, *names: str) -> Path:
        """Return the path of the HTML page of one or several sets."""
        return self.root / "faces" / fit_name("+".join(names), ".html")

    def run_folder(self, name: str) -> RunFolder:
        """Return the folder of the run `name`, whether it exists or not."""
        return RunFolder(root=self.root / "runs" / validate_name(name))

    def runs_page(self, *names: str) -> Path:
        """Return the path of the HTML page that compares several runs."""
        return self.root / "runs" / fit_name("+".join(names), ".html")

    def set_names(self) -> list[str]:
        """Return the names of all sets with records, sorted."""
        return sorted(path.parent.name for path in self.root.glob("faces/*/faces.jsonl"))

    def run_names(self) -> list[str]:
        """Return the names of all runs with weights, sorted."""
        return sorted(path.parent.name for path in self.root.glob("runs/*/weights.safetensors"))

    def require_set(self, name: str) -> SetFolder:
        """Return the folder of the set `name`.

        Raises:
            ConfigurationError: It does not exist.
        """
        if name in self.set_names():
            return self.set_folder(name)
        raise ConfigurationError(
            f'there is no set called "{name}" in {self.root}',
            hint=did_you_mean(name, self.set_names())
            or "create one first: faceswap extract VIDEO --name NAME",
        )

    def latest_run(self) -> RunFolder:
        """Return the run with the newest weights.

        Raises:
            ConfigurationError: Nothing was trained yet.
        """
        runs = [self.run_folder(name) for name in self.run_names()]
        if not runs:
            raise ConfigurationError(
                f"nothing was trained yet in {self.root}",
                hint="train first: faceswap train --model autoencoder A B",
            )
        return max(runs, key=lambda run: run.weights.stat().st_mtime_ns)

    def find_weights(self, model: str) -> Path:
        """Find trained weights by run name, by path, or by the word `latest`: the best of a run.

        Raises:
            ConfigurationError: They do not exist.
        """
        if model == "latest":
            return self.latest_run().trained
        if model in self.run_names():
            return self.run_folder(model).trained
        path = Path(model)
        if path.is_dir():
            path = RunFolder(root=path).trained
        if path.is_file():
            return path
        raise ConfigurationError(
            f'there is no trained model called "{model}"',
            hint=did_you_mean(model, [*self.run_names(), *(["latest"] if self.run_names() else [])])
            or "train first: faceswap train --model autoencoder A B",
        )


@contextmanager
def use_workspace(root: Path) -> Iterator[Workspace]:
    """Yield the workspace at `root`; a new one is created by the first file in it.

    So a command that fails leaves none.

    Raises:
        InputError: `root` is a file, or holds a workspace of a newer format.
    """
    space = Workspace.from_path(root)
    is_new = not root.exists()
    try:
        yield space
    finally:
        if is_new:
            space.remove_empty_folders()
        if space.has_content:
            Workspace.open(root)


_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*[. ]", re.IGNORECASE)
"""Names that Windows keeps for devices, with any suffix, and those whose end it drops."""


def validate_name(name: str) -> str:
    """Return `name` if it is a safe name for a folder.

    Raises:
        ConfigurationError: It is empty, hidden or too long, or would leave the workspace.
    """
    if name.isprintable() and len(name.encode()) > MAX_NAME_BYTES:
        raise ConfigurationError(
            f"a name of {len(name.encode())} bytes is too long for a folder: {name[:40]}...",
            hint=f"{MAX_NAME_BYTES} are possible; choose a shorter one with --name",
        )
    if name and name.isprintable() and not re.search(r'[/\\:*?"<>|]', name) and name[0] != ".":
        if sys.platform == "win32" and _WINDOWS_DEVICE.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} cannot be the name of a folder on Windows",
                hint="it names a device there, or ends in a dot or a space; choose another one",
            )
        return name
    raise ConfigurationError(
        f"{name!r} cannot be the name of a folder",
        hint="use letters, digits, dots, spaces, dashes; choose one with --name",
    )
