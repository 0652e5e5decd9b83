"""Evaluation of a clip: `evaluate_frames` turns pairs of frames into an `Evaluation`."""

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import NoFacesError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.evaluation.aggregate import FrameMeasurement, IdentityCentroids, compute_metrics
from faceswap_cli.evaluation.evaluation import Evaluation, WorstFrame, find_worst_frames
from faceswap_cli.evaluation.frame_eval import FrameEvaluator, FramePair
from faceswap_cli.evaluation.metrics.external_models import EvalModels, IdentityModel
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.embedding import Embedding, compute_centroid

MAX_REFERENCES = 16
"""Faces of a set that its centroid is computed from."""
MAX_SLOW_FRAMES: Mapping[str, int] = {"dlib": 40, "sface": 180, "lpips": 40}
"""Most frames of a clip that a slow model runs on, evenly spaced."""


def evaluate_frames(
    frames: Iterable[FramePair],
    *,
    names: tuple[str, str] = ("swapped", "original"),
    frame_count: int | None = None,
    identity: FaceSet,
    distractors: Sequence[FaceSet] = (),
    report: Reporter,
    models: EvalModels | None = None,
) -> Evaluation:
    """Evaluate the frames of a clip.

    Args:
        frames: The frames of both videos, in the order of showing.
        names: Names of the swapped and the original video.
        frame_count: Number of frames, if known.
        identity: Faces of the target identity.
        distractors: Faces of other identities, for retrieval.
        report: Receives progress.
        models: Opened before, for several clips; None opens them for this one.

    Raises:
        NoFacesError: There is no face in the original, or in a set.
    """
    for faces in (identity, *distractors):
        if not len(faces):
            raise NoFacesError(f'there is no face in the set "{faces.name}"')
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise NoFacesError(f"there is no frame in {names[1]}")

    # Measure frame by frame.
    models = models or EvalModels.open(has_truth=first.truth is not None)
    intervals = {
        name: math.ceil((frame_count or most) / most) for name, most in MAX_SLOW_FRAMES.items()
    }
    report.start_task("comparing", total=frame_count, unit="frames")
    with tempfile.TemporaryFile() as file, DETECTORS[DEFAULT_DETECTOR]() as detector:
        store = _FrameStore(file)
        evaluator = FrameEvaluator(detector, models, intervals=intervals)
        measurements = []
        for index, pair in enumerate(chain([first], frames)):
            measurements.append(evaluator.evaluate(pair))
            store.append(evaluator.encode_images(pair))
            report.update(index + 1)
        face_count = sum(frame.original is not None for frame in measurements)
        if not face_count:
            raise NoFacesError(f"no face was found in {names[1]}")

        # Aggregate.
        report.start_task("recognizing", total=None, unit="faces")
        centroids = _compute_centroids(models, measurements, identity, distractors)
        results = compute_metrics(
            measurements, centroids=centroids, missing_reasons=models.missing_reasons()
        )
        times = np.array([frame.time for frame in measurements])
        worst_frames = [
            WorstFrame(
                index=index,
                time=float(times[index]),
                metric=metric,
                value=value,
                images=store.read(index),
            )
            for index, metric, value in find_worst_frames(results, times)
        ]
    return Evaluation(
        swapped=names[0],
        source=names[1],
        identity=identity.name,
        frame_count=len(measurements),
        face_count=face_count,
        times=times,
        results=results,
        worst_frames=worst_frames,
    )


def _compute_centroids(
    models: EvalModels,
    frames: Sequence[FrameMeasurement],
    identity: FaceSet,
    distractors: Sequence[FaceSet],
) -> dict[str, IdentityCentroids]:
    """Return the centroids by model, without models that ran on no frame with a face.

    Slow models run on a sample of the frames, and the face may be visible only between those.
    """
    centroids = {}
    for name in models.identity:
        faces = [frame.original for frame in frames if frame.original is not None]
        embeddings = [face.embeddings[name] for face in faces if name in face.embeddings]
        if not embeddings:
            continue
        original = compute_centroid(np.stack(embeddings))
        target, *others = [_set_centroid(one, name, models) for one in (identity, *distractors)]
        centroids[name] = IdentityCentroids(
            target=target,
            original=original,
            distractors=np.stack(others) if others else np.empty((0, len(original))),
        )
    return centroids


def _set_centroid(faces: FaceSet, name: str, models: EvalModels) -> Embedding:
    """Return the centroid of a set's faces by the model called `name`, computed once."""
    indices = np.unique(np.linspace(0, len(faces) - 1, MAX_REFERENCES).round().astype(int))
    records = [faces.records[index] for index in indices]
    key: tuple[str | Path, ...] = (name, *(faces.path(record) for record in records))
    if key not in models.centroids:
        models.centroids[key] = _embed_centroid(faces, records, models.identity[name])
    return models.centroids[key]


def _embed_centroid(
    faces: FaceSet, records: Sequence[FaceRecord], model: IdentityModel
) -> Embedding:
    """Return the centroid of some of a set's faces."""
    embeddings = []
    for record in records:
        crop = image_io.read_image(faces.path(record))
        landmarks = transform_points(
            record.landmarks, record.alignment.frame_to_crop(crop.shape[0])
        )
        embeddings.append(model.embed(crop, landmarks))
    return compute_centroid(np.stack(embeddings))


class _FrameStore:
    """Small images of every frame, on disk until the worst frames are known.

    Args:
        file: Empty, open for writing and reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entries: list[dict[str, tuple[int, int]]] = []

    def append(self, images: Mapping[str, bytes]) -> None:
        """Store the image files of the next frame, by name."""
        entry = {}
        for name, data in images.items():
            entry[name] = (self._file.tell(), len(data))
            self._file.write(data)
        self._entries.append(entry)

    def read(self, index: int) -> dict[str, bytes]:
        """Return the image files of a frame, by name."""
        images = {}
        for name, (start, length) in self._entries[index].items():
            self._file.seek(start)
            images[name] = self._file.read(length)
        return images
