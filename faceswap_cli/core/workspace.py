"""The workspace on disk: the only file that knows file names, and nothing of what is in them."""

import re
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from faceswap_cli.core.errors import ConfigurationError, InputError, did_you_mean
from faceswap_cli.core.fileio import write_text

FORMAT = 1
"""Version of the layout below; a newer one on disk is refused, an older one would be migrated."""


@dataclass(frozen=True, kw_only=True)
class SetFolder:
    """One person's faces: crops, one record a line, and where they came from."""

    root: Path

    @property
    def name(self) -> str:
        """The name the user calls the set by."""
        return self.root.name

    @property
    def source(self) -> Path:
        """Which inputs the faces came from, their digests, and the extraction settings."""
        return self.root / "source.toml"

    @property
    def records(self) -> Path:
        """One `FaceRecord` a line, appended as found."""
        return self.root / "faces.jsonl"

    @property
    def rejected(self) -> Path:
        """Crops taken out of the set, which can be put back."""
        return self.root / "rejected"

    @property
    def crop_features(self) -> Path:
        """What was measured of the crops' pictures; may be deleted at any time."""
        return self.root / "looks.npz"

    @property
    def progress(self) -> Path:
        """How far an extraction that was stopped had got; gone when it is finished."""
        return self.root / "progress.json"

    def crop_path(self, frame: int, face: int, *, source: int = 0, kind: str = "png") -> Path:
        """The crop of face number `face` in frame number `frame` of the input number `source`."""
        before = f"{source + 1}-" if source else ""
        return self.root / f"{before}{frame:06d}-{face}.{kind}"


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """One training run: its recipe, log, pictures and weights."""

    root: Path

    @property
    def name(self) -> str:
        """The name the user calls the run by."""
        return self.root.name

    @property
    def recipe(self) -> Path:
        """The resolved settings, each line with where its value came from."""
        return self.root / "recipe.toml"

    @property
    def log(self) -> Path:
        """The same numbers as the console, one JSON object a line."""
        return self.root / "log.jsonl"

    @property
    def previews(self) -> Path:
        """Folder of contact sheets named by images seen."""
        return self.root / "previews"

    def preview_path(self, images_seen: int) -> Path:
        """The contact sheet made after `images_seen` images."""
        return self.previews / f"{images_seen:08d}.png"

    @property
    def growth_stages(self) -> Path:
        """Folder of what each stage of a network that grows made of faces, by its number."""
        return self.root / "stages"

    @property
    def growth_strip(self) -> Path:
        """All stages of a network that grows, side by side."""
        return self.root / "stages.png"

    @property
    def cache(self) -> Path:
        """Decoded crops of the sets; may be deleted at any time."""
        return self.root / "cache"

    @property
    def resume(self) -> Path:
        """Everything needed to go on training."""
        return self.root / "resume.safetensors"

    @property
    def snapshots(self) -> Path:
        """Folder of the last states, named by images seen; `resume` is one of them."""
        return self.root / "snapshots"

    def snapshot_path(self, images_seen: int) -> Path:
        """The state after `images_seen` images."""
        return self.snapshots / f"{images_seen:012d}.safetensors"

    @property
    def weights(self) -> Path:
        """Averaged weights with the recipe in the header: what `convert` reads."""
        return self.root / "weights.safetensors"

    @property
    def best(self) -> Path:
        """The weights that did best on held-out faces, in the format of `weights`."""
        return self.root / "best.safetensors"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.root / "tensorboard"

    @property
    def report(self) -> Path:
        """Curves, previews and numbers on one page."""
        return self.root / "report.html"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder that the three stages share."""

    root: Path

    @classmethod
    def from_path(cls, root: Path) -> "Workspace":
        """Return the workspace at `root`, whether it is there yet or not; nothing is written.

        Raises:
            InputError: `root` is a file, or holds a workspace of a newer format.
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
            found = int(tomllib.loads(space.version_file.read_text(encoding="utf-8"))["format"])
        except (tomllib.TOMLDecodeError, KeyError, ValueError, UnicodeDecodeError) as error:
            raise InputError(
                f"{space.version_file} cannot be read",
                hint=f"it should hold the line: format = {FORMAT}",
            ) from error
        if found > FORMAT:
            raise InputError(
                f"{root} was made by a newer faceswap (format {found}, this one knows {FORMAT})",
                hint="update faceswap, or choose another folder with --workspace",
            )
        return space

    @classmethod
    def open(cls, root: Path) -> "Workspace":
        """Open the workspace at `root`, making it where there is none.

        Raises:
            InputError: `root` is a file, or holds a workspace of a newer format.
        """
        space = cls.from_path(root)
        if not space.version_file.exists():
            write_text(space.version_file, f"# faceswap workspace\nformat = {FORMAT}\n")
        return space

    @property
    def version_file(self) -> Path:
        """Says which format the workspace has."""
        return self.root / "workspace.toml"

    @property
    def subfolders(self) -> tuple[Path, ...]:
        """The folders in it."""
        return self.root / "faces", self.root / "runs", self.exports

    @property
    def has_content(self) -> bool:
        """Whether anything was written to it."""
        return any(folder.is_dir() for folder in self.subfolders)

    def remove_empty_folders(self) -> None:
        """Remove its folders, and itself, where they are empty."""
        for folder in (*self.subfolders, self.root):
            with suppress(OSError):
                folder.rmdir()

    @property
    def exports(self) -> Path:
        """Folder of finished videos."""
        return self.root / "exports"

    def set_folder(self, name: str) -> SetFolder:
        """The folder of the set called `name`, whether it exists or not."""
        return SetFolder(root=self.root / "faces" / validate_name(name))

    def faces_page(self, *names: str) -> Path:
        """The page on which one set, or several beside each other, can be looked through."""
        return self.root / "faces" / f"{'+'.join(names)}.html"

    def run_folder(self, name: str) -> RunFolder:
        """The folder of the run called `name`, whether it exists or not."""
        return RunFolder(root=self.root / "runs" / validate_name(name))

    def runs_page(self, *names: str) -> Path:
        """The page on which several runs stand beside each other."""
        return self.root / "runs" / f"{'+'.join(names)}.html"

    def set_names(self) -> list[str]:
        """Names of the sets that hold records."""
        return sorted(path.parent.name for path in self.root.glob("faces/*/faces.jsonl"))

    def run_names(self) -> list[str]:
        """Names of the runs that hold weights."""
        return sorted(path.parent.name for path in self.root.glob("runs/*/weights.safetensors"))

    def require_set(self, name: str) -> SetFolder:
        """The folder of the set called `name`.

        Raises:
            ConfigurationError: There is no such set.
        """
        if name in self.set_names():
            return self.set_folder(name)
        raise ConfigurationError(
            f'there is no set called "{name}" in {self.root}',
            hint=did_you_mean(name, self.set_names())
            or "make one first: faceswap extract VIDEO --name NAME",
        )

    def latest_run(self) -> RunFolder:
        """The run whose weights were written last.

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
        """Find trained weights by run name, by path, or by the word `latest`.

        Raises:
            ConfigurationError: There are none by that name.
        """
        if model == "latest":
            return self.latest_run().weights
        if model in self.run_names():
            return self.run_folder(model).weights
        path = Path(model)
        if path.is_dir():
            path = RunFolder(root=path).weights
        if path.is_file():
            return path
        raise ConfigurationError(
            f'there is no trained model called "{model}"',
            hint=did_you_mean(model, [*self.run_names(), *(["latest"] if self.run_names() else [])])
            or "train first: faceswap train --model autoencoder A B",
        )


def validate_name(name: str) -> str:
    """Return `name` if it can safely be a folder's name.

    Raises:
        ConfigurationError: It is empty, hidden, or reaches out of the workspace.
    """
    if name and name.isprintable() and not re.search(r'[/\\:*?"<>|]', name) and name[0] != ".":
        return name
    raise ConfigurationError(
        f"{name!r} cannot be the name of a folder",
        hint="use letters, digits, dots, spaces, dashes; choose one with --name",
    )
