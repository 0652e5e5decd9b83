"""Clips of synthetic people: where the face of a true swap sits."""

import numpy as np
import pytest

from faceswap_cli import heads
from faceswap_cli.evaluation.clips import place_face
from faceswap_cli.faces.alignment import align_face, transform_points
from faceswap_cli.faces.detectors.litert import LiteRTDetector

SIDE_PX = 256
CROP_PX = 256


def mean_shift(person: heads.HeadPerson, other: heads.HeadPerson, moments: list[int]) -> float:
    """Return how far apart two people's faces are detected on average, px of a crop."""
    performance = heads.invent_performance(1, seconds=4.0)
    shifts = []
    with LiteRTDetector(location_only=True) as detector:
        for moment in moments:
            found = []
            for one in (person, other):
                head = heads.HeadModel.from_person(one)
                frame = heads.render_head(head, performance[moment], SIDE_PX)
                found.append(align_face(detector.detect(frame.image)[0].landmarks))
            center = found[1].corners().mean(axis=0, keepdims=True)
            shifts.append(CROP_PX * (transform_points(center, found[0].to_unit)[0] - 0.5))
    return float(np.linalg.norm(np.mean(shifts, axis=0)))


@pytest.mark.slow
def test_the_face_of_a_true_swap_is_detected_where_it_was() -> None:
    """At other moments than those that it was placed by, within a third of a pixel."""
    cast = heads.head_cast()
    driving, swapped = cast["nia"], cast["lea"].on_head_of(cast["nia"])
    performance = heads.invent_performance(1, seconds=4.0)
    placed = place_face(swapped, driving, performance, side_px=SIDE_PX)
    moments = [5, 14, 23, 32, 41, 50, 59, 68, 77, 86, 95]
    assert mean_shift(driving, swapped, moments) > 1.5
    assert mean_shift(driving, placed, moments) < 0.35


@pytest.mark.slow
def test_a_face_that_is_not_detected_stays() -> None:
    """On a head turned away nothing is found, and nothing moved."""
    cast = heads.head_cast()
    away = [heads.HeadScene(yaw=150)]
    person = cast["lea"].on_head_of(cast["nia"])
    assert person == place_face(person, cast["nia"], away, side_px=64)
