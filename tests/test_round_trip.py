"""Round trip: what the pipeline loses when a face is swapped to itself."""

import pytest

from faceswap_cli import synthetic
from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.round_trip import RoundTrip, measure_psnr
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS

Faces = list[tuple[Image, Points]]


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Return synthetic frames with a face, and its detected landmarks."""
    frames = synthetic.render_frames(
        synthetic.CAST["ada"], synthetic.random_scenes(5, 5), size_px=320, processes=1
    )
    with DETECTORS[DEFAULT_DETECTOR]() as detector:
        detections = [(frame.image, detector.detect(frame.image)) for frame in frames]
    return [(image, found[0].landmarks) for image, found in detections if found]


def test_perfect_network_as_fine_as_the_face_loses_little(faces: Faces) -> None:
    """The PSNR inside the mask is above 38 dB after every step before the encoder."""
    side = max(align_face(landmarks).center_crop(0.8).side_px for _, landmarks in faces)
    assert len(faces) >= 4
    psnr = measure_psnr(faces, RoundTrip(size_px=int(side) + 1))
    assert ["alignment", "resampling", "blending"] == list(psnr)
    assert all(value > 38 for value in psnr.values()), psnr


def test_coarser_network_loses_by_resampling_only(faces: Faces) -> None:
    """A quarter of the size costs decibels in that step, and none in the alignment."""
    fine, coarse = (measure_psnr(faces[:2], RoundTrip(size_px=size)) for size in (256, 64))
    assert fine["alignment"] == coarse["alignment"]
    assert coarse["resampling"] < fine["resampling"] - 4


def test_encoding_is_the_last_step(faces: Faces) -> None:
    """A lossless encoder changes nothing, one that darkens the frames does."""
    round_trip = RoundTrip(size_px=128)
    lossless = measure_psnr(faces[:2], round_trip, encode=lambda images: images)
    assert lossless["encoding"] == lossless["blending"]
    dark = measure_psnr(
        faces[:2], round_trip, encode=lambda images: [image - image // 16 for image in images]
    )
    assert dark["encoding"] < lossless["encoding"] - 3
