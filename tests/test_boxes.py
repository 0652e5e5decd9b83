"""Boxes of one face overlap by more than the threshold."""

import numpy as np

from faceswap_cli.faces.boxes import compute_iou


def test_iou_of_known_boxes() -> None:
    """The same box, half of it, a third of the union, boxes apart, and an empty box."""
    box = np.float32([0, 0, 10, 20])
    others = np.float32(
        [[0, 0, 10, 20], [0, 0, 10, 10], [5, 0, 15, 20], [10, 0, 20, 20], [3, 3, 3, 3]]
    )

    np.testing.assert_allclose(compute_iou(others, box), [1, 1 / 2, 1 / 3, 0, 0])
    assert 1 == compute_iou(box, box)
