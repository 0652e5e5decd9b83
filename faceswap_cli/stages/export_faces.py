"""Export of a face set: its crops in a plain folder, and a line of JSON for each."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import translate_os_errors, write_text
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.types import BLENDSHAPE_NAMES

LINES_NAME = "faces.jsonl"
"""Name of the file of lines in an exported folder."""


@dataclass(frozen=True, kw_only=True)
class FacesSummary:
    """What an export of faces wrote."""

    faces: int
    """Faces of the set."""
    output: Path
    """The folder."""


def export_faces(folder: SetFolder, *, output: Path) -> FacesSummary:
    """Write the crops of a set, and what was measured on them, to a folder.

    Args:
        folder: The set.
        output: The folder: a new or an empty one.

    Raises:
        InputError: The folder has files, or cannot be written, or a crop cannot be read.
    """
    with translate_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise InputError(f"{output} already has files", hint="name a new folder with --output")
    faces = FaceSet.from_folder(folder)
    lines = []
    for record in faces.records:
        path = faces.path(record)
        with translate_os_errors(output):
            shutil.copyfile(path, output / record.file)
        lines.append(json.dumps(describe_face(record, image_io.read_image(path).shape[0])))
    write_text(output / LINES_NAME, "".join(f"{line}\n" for line in lines))
    return FacesSummary(faces=len(lines), output=output)


def describe_face(record: FaceRecord, side_px: int) -> dict[str, Any]:
    """Return what is known of a face for JSON; positions are px in its crop.

    Args:
        record: The face.
        side_px: Side of its crop.
    """
    frame_to_crop = record.alignment.frame_to_crop(side_px)
    landmarks = transform_points(record.landmarks, frame_to_crop).astype(float)
    return {
        "file": record.file,
        "frame": record.frame,
        "time_s": round(float(record.time), 6),
        "track": record.track,
        "landmarks": landmarks.round(2).tolist(),
        "frame_to_crop": frame_to_crop.tolist(),
        "pose_deg": dict(zip(("yaw", "pitch", "roll"), record.pose, strict=True)),
        "blendshapes": dict(zip(BLENDSHAPE_NAMES, record.blendshapes, strict=True)),
        "score": record.score,
        "sharpness": record.sharpness,
        "interpolated": record.is_interpolated,
    }
