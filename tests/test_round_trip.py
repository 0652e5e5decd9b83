"""A person swapped to themselves loses next to nothing: the pipeline's own part."""

import pytest

from faceswap_cli import synthetic
from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.round_trip import RoundTrip, measure_psnr
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS

Seen = list[tuple[Image, Points]]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Drawn faces, found as every stage finds them."""
    shots = synthetic.render_frames(
        synthetic.CAST["ada"], synthetic.random_scenes(5, 5), size_px=320, processes=1
    )
    with DETECTORS[DEFAULT_DETECTOR]() as detector:
        found = [(shot.image, detector.detect(shot.image)) for shot in shots]
    return [(image, faces[0].landmarks) for image, faces in found if faces]


def test_a_perfect_network_as_fine_as_the_face_loses_less_than_can_be_seen(seen: Seen) -> None:
    """More than 38 dB inside the mask after every step before the encoder."""
    side = max(align_face(landmarks).center_crop(0.8).side_px for _, landmarks in seen)
    assert len(seen) >= 4
    found = measure_psnr(seen, RoundTrip(size_px=int(side) + 1))
    assert ["alignment", "resampling", "blending"] == list(found)
    assert all(value > 38 for value in found.values()), found


def test_a_coarser_network_loses_by_resampling_alone(seen: Seen) -> None:
    """Half the size costs decibels in that step; the alignment does not know of it."""
    fine, coarse = (measure_psnr(seen[:2], RoundTrip(size_px=size)) for size in (256, 64))
    assert fine["alignment"] == coarse["alignment"]
    assert coarse["resampling"] < fine["resampling"] - 4


def test_encoding_is_measured_last(seen: Seen) -> None:
    """An encoder that loses nothing changes nothing, one that darkens by eight levels does."""
    swap = RoundTrip(size_px=128)
    plain = measure_psnr(seen[:2], swap, encode=lambda images: images)
    assert plain["encoding"] == plain["blending"]
    dark = measure_psnr(
        seen[:2], swap, encode=lambda images: [image - image // 16 for image in images]
    )
    assert dark["encoding"] < plain["encoding"] - 3
