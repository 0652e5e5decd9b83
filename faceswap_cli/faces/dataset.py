"""Records of crops, one line of JSON each (`FaceRecord`), and sets of them (`FaceSet`)."""

import hashlib
import json
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import parse_fraction
from faceswap_cli.core.types import Points
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.alignment import FRAMINGS, FaceAlignment
from faceswap_cli.faces.set_source import RECORDS_DIGEST, read_source

MASK_FOLDER = "masks"
"""Folder in a set's, of masks that came with the footage."""


@dataclass(frozen=True, kw_only=True)
class FaceRecord:
    """One crop of a set."""

    file: str
    """Name of the crop within the set's folder."""
    frame: int
    """Index of the frame in decode order."""
    time: Fraction
    """When the frame is shown, seconds, exact."""
    alignment: FaceAlignment
    """The crop's square in the frame."""
    landmarks: Points
    """float32 (478, 2), px in the frame."""
    score: float
    """The detector's confidence, 0 to 1."""
    sharpness: float
    """Variance of the Laplacian of the crop's luma; small is blurred."""
    pose: tuple[float, float, float]
    """Yaw, pitch, roll in degrees."""
    blendshapes: tuple[float, ...]
    """52 blendshape coefficients, 0 to 1, in MediaPipe's order."""
    input_index: int = 0
    """Which of the set's inputs the frame is of, counted from 0."""
    cut_off: float = 0.0
    """Part of the face's area that is outside the frame, 0 to 1."""
    covered: float = 0.0
    """Part of the face with something in front of it, 0 to 1."""
    track: int = 0
    """The same number for the same face of one input as long as it is tracked, from 0."""
    outline: Points = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    """float32 (K, 2), px in the frame: the corners of the face's outline."""
    framing: str = "face"
    """What the crop and `alignment` cover: a name in `alignment.FRAMINGS`."""
    is_interpolated: bool = False
    """It was not detected in this frame, but interpolated between the frames before and after."""

    def to_json(self) -> str:
        """Return the record as one line."""
        return json.dumps(
            {
                "file": self.file,
                "frame": self.frame,
                "time": str(self.time),
                "track": self.track,
                "to_unit": self.alignment.to_unit.tolist(),
                # A hundredth of a pixel is far below the landmark model's own noise.
                "landmarks": _round_points(self.landmarks),
                "score": round(self.score, 4),
                "sharpness": round(self.sharpness, 2),
                "pose": [round(angle, 2) for angle in self.pose],
                "expression": [round(value, 4) for value in self.blendshapes],
                "mask": _round_points(self.outline),
            }
            | ({"source": self.input_index} if self.input_index else {})
            | ({"cut_off": round(self.cut_off, 3)} if self.cut_off >= 0.0005 else {})
            | ({"covered": round(self.covered, 3)} if self.covered >= 0.0005 else {})
            | ({"framing": self.framing} if self.framing != "face" else {})
            | ({"interpolated": True} if self.is_interpolated else {}),
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, line: str) -> "FaceRecord":
        """Return the record of one line.

        Raises:
            ValueError: The line is torn or of another kind, or names a file elsewhere.
        """
        try:
            return cls._from_fields(json.loads(line))
        except (KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"not a record: {type(error).__name__}") from error

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> "FaceRecord":
        """Return the record of a line's values, which may be anything that JSON can hold."""
        if not _is_file_name(fields["file"]):
            raise ValueError("a crop is in the folder of its set")
        if fields.get("framing", "face") not in FRAMINGS:
            raise ValueError("an unknown framing")
        return cls(
            file=fields["file"],
            frame=_to_index(fields["frame"]),
            time=parse_fraction(fields["time"]),
            alignment=_to_alignment(fields["to_unit"]),
            landmarks=_to_array(fields["landmarks"], (478, 2), np.float32),
            score=float(fields["score"]),
            sharpness=float(fields["sharpness"]),
            pose=_to_pose(fields["pose"]),
            blendshapes=_to_floats(fields["expression"], 52),
            input_index=_to_index(fields.get("source", 0)),
            cut_off=float(fields.get("cut_off", 0.0)),
            covered=float(fields.get("covered", 0.0)),
            track=_to_index(fields.get("track", 0)),
            outline=_to_array(fields.get("mask", []), (-1, 2), np.float32),
            framing=fields.get("framing", "face"),
            is_interpolated=bool(fields.get("interpolated", False)),
        )


@dataclass(frozen=True, kw_only=True)
class FaceSet:
    """One person's faces, in the order of their frames; a crop the user deleted is out."""

    name: str
    folder: Path
    records: Sequence[FaceRecord]

    @classmethod
    def load(
        cls, name: str, *, folder: Path, records: Path, sha256: str | None = None
    ) -> "FaceSet":
        """Read the set with crops in `folder` and records in the file `records`.

        Args:
            name: Name of the set.
            folder: Its crops.
            records: Its records.
            sha256: As of `read_records`.

        Raises:
            InputError: As `read_records` does, or a crop is a link to a file elsewhere.
        """
        all_records = read_records(records, sha256=sha256)
        present = [one for one in all_records if _is_present(folder / one.file)]
        return cls(name=name, folder=folder, records=present)

    @classmethod
    def from_folder(cls, folder: SetFolder) -> "FaceSet":
        """Read the set in a folder of the workspace.

        Raises:
            InputError: Its records or its `source.toml` are damaged.
        """
        return cls.load(
            folder.name,
            folder=folder.root,
            records=folder.records,
            sha256=read_records_digest(folder),
        )

    def __len__(self) -> int:
        return len(self.records)

    def path(self, record: FaceRecord) -> Path:
        """Return the path of a crop."""
        return self.folder / record.file

    def mask_path(self, record: FaceRecord) -> Path:
        """Return the path of a crop's mask, if one came with the footage: a PNG of its size."""
        crop = self.path(record)
        return crop.parent / MASK_FOLDER / f"{crop.stem}.png"

    def find_mask(self, record: FaceRecord) -> Path | None:
        """Return the path of a crop's mask; None without one, or for a link to a file elsewhere."""
        path = self.mask_path(record)
        is_inside = path.resolve().is_relative_to(self.folder.resolve())
        return path if path.is_file() and is_inside else None


def _is_present(crop: Path) -> bool:
    """Return whether a crop is there.

    Raises:
        InputError: It is a link to a file elsewhere: a set from a stranger must not read others.
    """
    try:
        if stat.S_ISREG(crop.lstat().st_mode):
            return True
    except OSError:
        return False
    if crop.is_file() and not crop.resolve().is_relative_to(crop.parent.resolve()):
        raise InputError(
            f"{crop} is a link to a file outside of its set", hint="replace it by that file"
        )
    return crop.is_file()


def _is_file_name(name: str) -> bool:
    """Return whether a name is that of a file in the folder at hand."""
    return Path(name).name == name and name not in ("", "..") and "\0" not in name


def _to_index(value: Any) -> int:  # noqa: ANN401
    """Return a whole number from 0.

    Raises:
        ValueError: It is none.
    """
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("not an index")
    return value


MAX_SIDE_PX = 20_000
"""Side of the largest square of a face: a crop samples all of it, a head in 16K has 13,000."""


def _to_alignment(values: Any) -> FaceAlignment:  # noqa: ANN401
    """Return an alignment.

    Raises:
        ValueError: It is none, or its square is smaller than a pixel or larger than any face.
    """
    to_unit = _to_array(values, (2, 3), np.float64)
    scale = abs(float(np.linalg.det(to_unit[:, :2])))
    if not MAX_SIDE_PX**-2 <= scale <= 1:
        raise ValueError("no square of a face")
    return FaceAlignment(to_unit=to_unit)


def _to_floats(values: Any, count: int) -> tuple[float, ...]:  # noqa: ANN401
    """Return so many numbers.

    Raises:
        ValueError: They are more or fewer.
    """
    if len(values) != count:
        raise ValueError(f"not {count} numbers")
    return tuple(float(value) for value in values)


def _to_pose(values: Any) -> tuple[float, float, float]:  # noqa: ANN401
    """Return yaw, pitch and roll in degrees.

    Raises:
        ValueError: They are more or fewer.
    """
    yaw, pitch, roll = _to_floats(values, 3)
    return yaw, pitch, roll


def _to_array(values: Any, shape: tuple[int, ...], dtype: type[Any]) -> Any:  # noqa: ANN401
    """Return finite numbers as an array of a shape; -1 is any length.

    Raises:
        ValueError: The shape is another one, or a number is not finite.
    """
    array = np.array(values, dtype=dtype)
    if not array.size:
        array = array.reshape(0, *shape[1:])
    is_shaped = array.ndim == len(shape) and all(
        wanted in (-1, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not is_shaped or not np.isfinite(array).all():
        raise ValueError(f"not {shape} finite numbers")
    return array


def _round_points(points: Points) -> list[list[float]]:
    """Return points (N, 2) for JSON, rounded to hundredths of a pixel."""
    rounded: list[list[float]] = np.round(points.astype(np.float64), 2).tolist()
    return rounded


_REPAIR_HINT = "delete that file and run its extract command again: it finds the same faces"


def read_records_digest(folder: SetFolder) -> str | None:
    """Return the digest that the records of a finished set have; older sets have none.

    Raises:
        InputError: The set's `source.toml` is damaged.
    """
    if not folder.source.exists():
        return None
    digest = read_source(folder.source).get("result", {}).get(RECORDS_DIGEST)
    return None if digest is None else str(digest)


def read_records(path: Path, *, sha256: str | None = None) -> Iterable[FaceRecord]:
    """Yield the records of a file; a last line torn by a crash is left out.

    Args:
        path: The file.
        sha256: Its digest; None does not check it.

    Raises:
        InputError: A line is not a record, or the file has another digest: after the last record.
    """
    total = hashlib.sha256()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            total.update(line)
            if not line.endswith(b"\n"):
                break
            try:
                yield FaceRecord.from_json(line.decode(errors="replace"))
            except ValueError as error:
                raise InputError(
                    f"{path} cannot be read: its line {number} is not a face",
                    hint=_REPAIR_HINT,
                ) from error
    if sha256 is not None and sha256 != total.hexdigest():
        raise InputError(
            f"{path} is damaged: its digest does not match",
            hint=_REPAIR_HINT,
        )
