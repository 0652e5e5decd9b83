"""Draws pairs of synthetic people: rendered, detected and cropped as footage would be.

Worker processes draw groups of people, each into a file of its own: what is drawn once is never
drawn again, and a run that was interrupted draws only what is missing.
"""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from faceswap_cli import heads, synthetic
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.faces.masks import eyes_mouth_mask, face_mask
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.pretraining.mesh_groups import draw_mesh_person, draw_mesh_scenes
from faceswap_cli.pretraining.pairs import (
    RENDER_PX,
    Group,
    PairSettings,
    derive_pair_seed,
    group_path,
)
from faceswap_cli.synthetic import Person, SceneParams
from faceswap_cli.synthetic.parallel import init_worker
from faceswap_cli.training.dataset import pack_masks, write_array


def draw_groups(settings: PairSettings, folder: Path, *, processes: int = 1) -> Iterator[int]:
    """Draw the groups that are missing; yield the number of groups that are there.

    Args:
        settings: What is drawn.
        folder: Where the files are; those of other settings may be there as well.
        processes: Worker processes; 1 draws in this one.

    Raises:
        InputError: A file cannot be written.
    """
    paths = {number: group_path(folder, settings, number) for number in settings.group_numbers}
    missing = [number for number, path in paths.items() if not path.exists()]
    present = len(paths) - len(missing)
    yield present
    draw = partial(_draw_to_file, settings, folder)
    if processes == 1 or len(missing) < 2:
        results: Iterator[None] = map(draw, missing)
        yield from (done for done, _ in enumerate(results, present + 1))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=init_worker) as pool:
        try:
            results = pool.map(draw, missing)
            yield from (done for done, _ in enumerate(results, present + 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def draw_person(settings: PairSettings, number: int) -> Person:
    """Return the ellipsoid person of a number."""
    return synthetic.random_person(derive_pair_seed(settings.seed, "person", number))


def draw_scenes(settings: PairSettings, group: int) -> Sequence[SceneParams]:
    """Return the moments of a group of ellipsoid people."""
    return synthetic.random_scenes(
        derive_pair_seed(settings.seed, "scenes", group), settings.moments
    )


def draw_group(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
    """Render a group's people in all of its moments, and crop their faces.

    Args:
        settings: What is drawn.
        group: Number of the group.
        detector: An open detector.
    """
    render = render_mesh_people if settings.is_mesh_group(group) else render_ellipsoid_people
    return crop_group(settings, render(settings, group), detector)


def render_ellipsoid_people(settings: PairSettings, group: int) -> Iterator[Iterator[Image]]:
    """Yield the images of each person of a group, moment by moment."""
    scenes = draw_scenes(settings, group)

    def render_person(number: int) -> Iterator[Image]:
        head = synthetic.HeadModel.from_person(draw_person(settings, number))
        return (synthetic.render_frame(head, scene, RENDER_PX).image for scene in scenes)

    return map(render_person, settings.person_numbers(group))


def render_mesh_people(settings: PairSettings, group: int) -> Iterator[Iterator[Image]]:
    """Yield the images of each person of a mesh of a group, moment by moment."""
    scenes = draw_mesh_scenes(settings, group)

    def render_person(number: int) -> Iterator[Image]:
        head = heads.HeadModel.from_person(draw_mesh_person(settings, number))
        return (heads.render_head(head, scene, RENDER_PX).image for scene in scenes)

    return map(render_person, settings.person_numbers(group))


def crop_group(
    settings: PairSettings, people: Iterable[Iterable[Image]], detector: FaceDetector
) -> Group:
    """Crop the faces of a group.

    Args:
        settings: What is drawn.
        people: The images of each person, moment by moment.
        detector: An open detector.
    """
    crops = np.zeros(settings.group_shape, np.uint8)
    for column, images in enumerate(people):
        for row, image in enumerate(images):
            crop = crop_largest(image, detector, side_px=settings.side_px)
            if crop is not None:
                crops[row, column] = crop
    return crops


def crop_largest(image: Image, detector: FaceDetector, *, side_px: int) -> AnyArray | None:
    """Return the crop and mask levels of the largest face, uint8 (S, S, 4), if there is one."""
    faces = detector.detect(image)
    if not faces:
        return None
    landmarks = faces[0].landmarks
    alignment = align_face(landmarks)
    masks = [mask(landmarks, alignment, side_px) for mask in (face_mask, eyes_mouth_mask)]
    return np.dstack([alignment.crop(image, side_px), pack_masks(*masks)])


def _draw_to_file(settings: PairSettings, folder: Path, group: int) -> None:
    """Draw a group to its file."""
    with LOCATION_DETECTORS["litert"]() as detector:
        crops = draw_group(settings, group, detector)
    write_array(group_path(folder, settings, group), [crops.tobytes()], shape=crops.shape)
