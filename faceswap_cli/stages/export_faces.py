"""Export of a face set: its crops in a plain folder, and a line of JSON for each."""

import filecmp
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import atomic_write, translate_os_errors, write_text
from faceswap_cli.core.workspace import SetFolder, Workspace
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

    What is there of an export that was interrupted, or is repeated, stays.

    Args:
        folder: The set.
        output: The folder: a new or an empty one, or that of an export of the same faces.

    Raises:
        InputError: The folder has other files, or cannot be written, or a crop cannot be read.
    """
    faces = FaceSet.from_folder(folder)
    crops = {record.file: faces.path(record) for record in faces.records}
    with translate_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        present = {path.name for path in output.iterdir()} - {LINES_NAME}
        is_same = all(
            name in crops and filecmp.cmp(output / name, crops[name], shallow=False)
            for name in present
        )
    if not is_same:
        raise InputError(f"{output} already has files", hint="name a new folder with --output")
    lines = []
    for record in faces.records:
        crop = crops[record.file]
        if record.file not in present:
            with translate_os_errors(output), atomic_write(output / record.file) as temporary:
                shutil.copyfile(crop, temporary)
        side_px = image_io.read_image(crop).shape[0]
        lines.append(json.dumps(describe_face(record, side_px)))
    write_text(output / LINES_NAME, "".join(f"{line}\n" for line in lines))
    return FacesSummary(faces=len(lines), output=output)


def default_faces_path(workspace: Workspace, name: str) -> Path:
    """Return the folder of an export without a name: in the workspace's exports."""
    return workspace.exports / f"{name}-faces"


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
