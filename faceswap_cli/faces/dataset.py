"""Records of crops, one line of JSON each (`FaceRecord`), and sets of them (`FaceSet`)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.types import Points
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.alignment import FaceAlignment


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
            | ({"framing": self.framing} if self.framing != "face" else {})
            | ({"interpolated": True} if self.is_interpolated else {}),
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, line: str) -> "FaceRecord":
        """Return the record of one line.

        Raises:
            ValueError, KeyError: The line is torn or of another kind, or names a file elsewhere.
        """
        fields: dict[str, Any] = json.loads(line)
        if Path(fields["file"]).name != fields["file"]:
            raise ValueError("a crop is in the folder of its set")
        return cls(
            file=fields["file"],
            frame=fields["frame"],
            time=Fraction(fields["time"]),
            alignment=FaceAlignment(to_unit=np.array(fields["to_unit"], dtype=np.float64)),
            landmarks=np.array(fields["landmarks"], dtype=np.float32),
            score=fields["score"],
            sharpness=fields["sharpness"],
            pose=tuple(fields["pose"]),
            blendshapes=tuple(fields["expression"]),
            input_index=fields.get("source", 0),
            cut_off=fields.get("cut_off", 0.0),
            track=fields.get("track", 0),
            outline=np.array(fields.get("mask", []), dtype=np.float32).reshape(-1, 2),
            framing=fields.get("framing", "face"),
            is_interpolated=fields.get("interpolated", False),
        )


@dataclass(frozen=True, kw_only=True)
class FaceSet:
    """One person's faces, in the order of their frames; a crop the user deleted is out."""

    name: str
    folder: Path
    records: Sequence[FaceRecord]

    @classmethod
    def load(cls, name: str, *, folder: Path, records: Path) -> "FaceSet":
        """Read the set with crops in `folder` and records in the file `records`."""
        present = (record for record in read_records(records) if (folder / record.file).is_file())
        return cls(name=name, folder=folder, records=list(present))

    @classmethod
    def from_folder(cls, folder: SetFolder) -> "FaceSet":
        """Read the set in a folder of the workspace."""
        return cls.load(folder.name, folder=folder.root, records=folder.records)

    def __len__(self) -> int:
        return len(self.records)

    def path(self, record: FaceRecord) -> Path:
        """Return the path of a crop."""
        return self.folder / record.file


def _round_points(points: Points) -> list[list[float]]:
    """Return points (N, 2) for JSON, rounded to hundredths of a pixel."""
    rounded: list[list[float]] = np.round(points.astype(np.float64), 2).tolist()
    return rounded


def read_records(path: Path) -> Iterable[FaceRecord]:
    """Yield the records of a file; a last line torn by a crash is left out.

    Raises:
        InputError: A line is not a record.
    """
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                yield FaceRecord.from_json(line)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path} cannot be read: its line {number} is not a face",
                    hint="delete that line, or the folder it is in, and extract again",
                ) from error
