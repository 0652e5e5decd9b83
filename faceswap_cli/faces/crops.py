"""A face's crop and its record (`make_crop`), and how good a crop is for training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image, Points
from faceswap_cli.faces.alignment import FRAMINGS
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.masks import convex_hull
from faceswap_cli.faces.occlusion import VisibleFaceModel
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.video.frame import Frame


def encode_jpeg_crop(image: Image) -> bytes:
    """Return a crop as a JPEG file of quality 95, with a checksum."""
    return image_io.add_jpeg_checksum(image_io.encode_jpeg(image, quality=95))


CROP_ENCODERS: Mapping[str, Callable[[Image], bytes]] = MappingProxyType(
    {
        "png": partial(image_io.encode_png, is_photo=True),
        "jpeg": encode_jpeg_crop,
    }
)
"""Encoders of crops by the name of their format."""
FILE_EXTENSIONS: Mapping[str, str] = MappingProxyType({"png": "png", "jpeg": "jpg"})
"""File extensions of the formats."""

INNER_FRACTION = 0.6
"""Part of the crop's side whose sharpness is measured: the face without its background."""
ANALYSIS_PX = 96
"""Side that the inner part is resized to first, so that crops of any size compare."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CropFile:
    """A crop, ready to be written."""

    path: Path
    content: bytes
    """The image file."""
    record: FaceRecord


def make_crop(
    frame: Frame,
    smoothed: SmoothedFace,
    *,
    path: Path,
    input_index: int,
    settings: ExtractSettings,
    occlusion: VisibleFaceModel,
) -> CropFile:
    """Return a face's crop, to be written to `path`, and its record."""
    alignment = FRAMINGS[settings.framing](smoothed.alignment)
    crop = alignment.crop(frame.view.to_partial_array(alignment.source_area()), settings.size_px)
    face = smoothed.face
    record = FaceRecord(
        file=path.name,
        frame=frame.index,
        time=frame.time,
        alignment=alignment,
        landmarks=face.landmarks,
        score=face.score,
        sharpness=measure_sharpness(crop),
        pose=face.pose,
        blendshapes=face.blendshapes,
        input_index=input_index,
        cut_off=measure_cut_off(face.landmarks, frame.view.size),
        covered=occlusion.measure_covered(frame.view, smoothed.alignment, face.landmarks),
        track=smoothed.track,
        outline=convex_hull(face.landmarks),
        framing=settings.framing,
        is_interpolated=smoothed.is_interpolated,
    )
    return CropFile(path=path, content=CROP_ENCODERS[settings.format](crop), record=record)


def measure_sharpness(crop: Image) -> float:
    """Return the variance of the Laplacian of the luma inside the face; small is blurred.

    The measure is that of J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield
    microscopy", ICPR 2000. Luma is 0 to 255.
    """
    margin = round(crop.shape[0] * (1 - INNER_FRACTION) / 2)
    inner = crop[margin : crop.shape[0] - margin, margin : crop.shape[1] - margin]
    luma = cv2.cvtColor(inner, cv2.COLOR_RGB2GRAY)
    resized = cv2.resize(luma, (ANALYSIS_PX, ANALYSIS_PX), interpolation=cv2.INTER_AREA)
    return float(np.var(cv2.Laplacian(resized, cv2.CV_64F)))


def measure_cut_off(landmarks: Points, size: tuple[int, int]) -> float:
    """Return the part of a face's area that is outside its frame, 0 to 1.

    Landmarks are found beyond the frame's edge too; a crop only repeats the edge there.

    Args:
        landmarks: (478, 2) px in the frame.
        size: (width, height) px of the frame.
    """
    width, height = size
    # The first pixel covers -0.5 to 0.5.
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    outline = convex_hull(landmarks)
    inside, _ = cv2.intersectConvexConvex(outline, frame)
    area = cv2.contourArea(outline)
    return float(np.clip(1 - inside / area, 0, 1)) if area > 0 else 0.0
