"""The MediaPipe FaceLandmarker as a detector: `MediaPipeDetector`.

The only file that imports mediapipe, and only when a detector is opened: the library takes a
second to load and needs graphics libraries that a server may lack.
"""

import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.stderr import suppress_stderr
from faceswap_cli.core.types import Image
from faceswap_cli.faces.boxes import compute_iou
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.head_pose import rotation_to_euler
from faceswap_cli.faces.types import Face


class MediaPipeDetector:
    """MediaPipe's FaceLandmarker (Tasks API); a context manager, open inside its block.

    Every image is processed on its own. MediaPipe's video mode carries the last frame's landmarks
    into the next one, so its results depend on the first frame: a stopped extraction could not be
    resumed to the same bytes. Faces narrower than about a ninth of the image's longer side are
    missed.

    Landmarks follow MediaPipe's own sampling, in which normalized x times the width is a position
    with pixel centers on integers (measured by mirroring images at eight sizes: the sum of both
    positions is width - 0.994, where a corner-based x would give the width itself; what remains,
    0.2 % of the face's width to image right, is the network's own).

    Args:
        model: Path of `face_landmarker.task`; the installed or downloaded one if not given.
        max_faces: Most faces returned for one image.
    """

    MIN_SCORE = 0.5
    """Confidence below which MediaPipe itself drops a face."""

    def __init__(self, *, model: Path | None = None, max_faces: int = 16) -> None:
        self._model = model
        self._max_faces = max_faces
        self._exit_stack = ExitStack()
        self._tasks: _Tasks | None = None
        self._has_detected = False

    def __enter__(self) -> Self:
        model = find_model_file("face_landmarker", explicit=self._model)
        with ExitStack() as stack:
            stack.enter_context(_TELEMETRY_BLOCKER.block())
            with suppress_stderr(), _translate_import_errors():
                self._tasks = _Tasks.open(model, max_faces=self._max_faces, exit_stack=stack)
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the networks; harmless when repeated."""
        self._tasks = None
        with suppress_stderr():
            self._exit_stack.close()

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the faces in `image`, largest first; none if all are at those of `exclude`."""
        faces = self._detect_all(image)
        excluded = [RoI.from_landmarks(face.landmarks) for face in exclude]
        rois = (RoI.from_landmarks(face.landmarks) for face in faces)
        has_new = any(not any(map(roi.overlaps_center, excluded)) for roi in rois)
        return faces if has_new else []

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the largest faces in the frame, at most as many as there were."""
        return self._detect_all(view.to_array())[: len(faces)]

    def _detect_all(self, image: Image) -> list[Face]:
        """Return the faces in `image`, largest first."""
        assert self._tasks is not None, "open the detector with `with` first"
        mp_image = self._tasks.to_mp_image(np.ascontiguousarray(image))
        # The library's last log lines come with the first face.
        with nullcontext() if self._has_detected else suppress_stderr():
            result = self._tasks.landmarker.detect(mp_image)
            if not result.face_landmarks:
                return []
            detections = self._tasks.detector.detect(mp_image).detections
        self._has_detected = True
        height, width = image.shape[:2]
        faces = [
            _to_face(
                points=np.array([(point.x * width, point.y * height) for point in points]),
                blendshapes=blendshapes,
                head_to_camera=np.asarray(to_camera),
                detections=detections,
            )
            for points, blendshapes, to_camera in zip(
                result.face_landmarks,
                result.face_blendshapes,
                result.facial_transformation_matrixes,
                strict=True,
            )
        ]
        return sorted(faces, key=lambda face: face.area_px, reverse=True)


@dataclass(frozen=True, kw_only=True)
class _Tasks:
    """The two open networks; MediaPipe has no type information."""

    landmarker: Any
    detector: Any
    """The landmarker's first stage once more: the landmarker does not return its score."""
    mediapipe: Any

    @classmethod
    def open(cls, model: Path, *, max_faces: int, exit_stack: ExitStack) -> "_Tasks":
        """Load mediapipe and both networks; `exit_stack` closes them."""
        import mediapipe
        from mediapipe.tasks import python as tasks
        from mediapipe.tasks.python import vision

        with zipfile.ZipFile(model) as bundle:
            first_stage = bundle.read("face_detector.tflite")
        # Passed as bytes: MediaPipe opens only paths that are valid UTF-8.
        landmarker = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=model.read_bytes()),
                running_mode=vision.RunningMode.IMAGE,
                num_faces=max_faces,
                min_face_detection_confidence=MediaPipeDetector.MIN_SCORE,
                output_face_blendshapes=True,
                output_facial_transformation_matrixes=True,
            )
        )
        exit_stack.callback(landmarker.close)
        detector = vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(
                base_options=tasks.BaseOptions(model_asset_buffer=first_stage),
                min_detection_confidence=MediaPipeDetector.MIN_SCORE,
            )
        )
        exit_stack.callback(detector.close)
        return cls(landmarker=landmarker, detector=detector, mediapipe=mediapipe)

    def to_mp_image(self, image: Image) -> Any:  # noqa: ANN401 - mediapipe has no types
        """Return `image` as a MediaPipe image."""
        return self.mediapipe.Image(
            image_format=self.mediapipe.ImageFormat.SRGB, data=np.asarray(image, np.uint8)
        )


def _to_face(
    *,
    points: npt.NDArray[np.float64],
    blendshapes: Any,  # noqa: ANN401 - mediapipe has no types
    head_to_camera: npt.NDArray[np.float64],
    detections: Any,  # noqa: ANN401
) -> Face:
    """Return a `Face` from MediaPipe's result."""
    box = np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
    scores = [
        (float(compute_iou(_to_box(found.bounding_box), box)), found.categories[0].score)
        for found in detections
    ]
    overlap, score = max(scores, default=(0.0, 0.0))
    return Face(
        box=box,
        landmarks=points.astype(np.float32),
        # Without a matching detection all that is known is that the face passed MediaPipe's limit.
        score=float(score) if overlap > 0 else MediaPipeDetector.MIN_SCORE,
        blendshapes=tuple(float(category.score) for category in blendshapes),
        pose=rotation_to_euler(head_to_camera[:3, :3]),
    )


def _to_box(box: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401 - mediapipe has no types
    """Return one of MediaPipe's boxes as x0, y0, x1, y1."""
    left, top = box.origin_x, box.origin_y
    return np.array([left, top, left + box.width, top + box.height], np.float32)


@contextmanager
def _translate_import_errors() -> Iterator[None]:
    """Turn a failure to load mediapipe into an `InputError`.

    Raises:
        InputError: It is not installed, or a library it needs is not.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"mediapipe, which finds the faces, cannot be imported: {error}",
            hint='install it with: pip install "mediapipe>=1.2,<2"',
        ) from error
    except OSError as error:
        raise InputError(
            f"mediapipe, which finds the faces, cannot be loaded: {error}",
            hint="it needs libEGL and libGLESv2; on Debian or Ubuntu: "
            "apt install libegl1 libgles2; on Fedora: dnf install libglvnd-egl libglvnd-gles",
        ) from error


@dataclass(kw_only=True)
class _TelemetryBlocker:
    """Blocks mediapipe's telemetry while any detector is open.

    mediapipe 1.2 sends usage reports to its maker: every minute, and when a network is closed. It
    has no switch for that, but its transport (libcurl) obeys the proxy variables of the
    environment. A proxy of a kind that does not exist makes it give up before it resolves a name
    or opens a connection (checked with strace). The exceptions in `no_proxy` would let it through,
    so they are removed as well.

    The environment belongs to the whole process, so detectors are counted, and it is restored when
    the last one closes. Closing waits for the last report to fail.
    """

    users: int = 0
    saved_env: dict[str, str | None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    DEAD_PROXY: ClassVar[str] = "nowhere://127.0.0.1:9"

    @contextmanager
    def block(self) -> Iterator[None]:
        """Block telemetry inside the block."""
        with self.lock:
            if self.users == 0:
                names = ("https_proxy", "no_proxy", "NO_PROXY")
                self.saved_env = {name: os.environ.pop(name, None) for name in names}
                os.environ["https_proxy"] = self.DEAD_PROXY
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    del os.environ["https_proxy"]
                    os.environ.update(
                        {name: value for name, value in self.saved_env.items() if value is not None}
                    )


_TELEMETRY_BLOCKER = _TelemetryBlocker()
