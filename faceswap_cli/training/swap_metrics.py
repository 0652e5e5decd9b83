"""`SwapEvaluator`: what swaps preserve (pose, expression) and how far they move the identity.

Swaps of validation faces are pasted into their crops and read by a face detector and SFace.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.crops import measure_sharpness
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.embedding import Embedding, SFace, compute_centroid
from faceswap_cli.faces.head_pose import pose_error_deg
from faceswap_cli.faces.masks import MASK_PX, intersect_masks
from faceswap_cli.faces.types import Face, FaceDetector, expression_error
from faceswap_cli.training.dataset import IdentityDataset, evenly_spaced, unpack_face_mask
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.trainer import is_out_of_memory
from faceswap_models.base import SwapModel
from faceswap_models.tensors import to_images, to_masks

FACES_PER_IDENTITY = 16
"""Validation faces of each identity that are read: some two seconds on a CPU."""


POSE_RANGE_DEG, EXPRESSION_RANGE = 5.0, 0.1
"""Errors of a poor swap, by which `SwapMetrics.error` weighs."""
IDENTITY_WEIGHT = 2.0
"""Weight of what the identity lacks: with 1, poses and expressions that are a little better in the
first minute, when the person cannot be recognized yet, would outweigh it."""


@dataclass(frozen=True, kw_only=True)
class SwapMetrics:
    """Validation faces compared with their swaps; None if no face was found in any swap."""

    detection_rate: float
    """Part of the swaps in which a face is found, 0 to 1."""
    pose_error_deg: float | None
    """Mean pose error against the original (`faces.head_pose.pose_error_deg`), degrees."""
    expression_error: float | None
    """Mean expression error against the original (`faces.types.expression_error`), 0 to 1."""
    identity_shift: float | None
    """Mean cosine to the target identity less that to the original one, -2 to 2: higher is
    better."""
    identity_baseline: float
    """The same for the unswapped faces."""
    sharpness: float | None = None
    """Mean sharpness of the swaps as a part of the target identity's own faces' (deviation of the
    Laplacian); None if no face was found, and in older logs."""

    @property
    def error(self) -> float:
        """What models are compared by, 0 or more: lower is better, infinite without any face.

        Pose and expression are to be the driving person's, identity and sharpness the other's: see
        docs/research/autoencoder.md for how it ranks models whose true swaps are known.
        """
        if (
            self.pose_error_deg is None
            or self.expression_error is None
            or self.identity_shift is None
        ):
            return math.inf
        missing = max(0.0, 1 - self.identity_shift / max(abs(self.identity_baseline), 1e-6))
        blur = 0.0 if self.sharpness is None else max(0.0, 1 - self.sharpness)
        return (
            self.pose_error_deg / POSE_RANGE_DEG
            + self.expression_error / EXPRESSION_RANGE
            + IDENTITY_WEIGHT * missing
            + blur
        ) / max(self.detection_rate, 1e-6)

    def __str__(self) -> str:
        """Return the metrics in one line."""
        found = f"{self.detection_rate:.0%} of swaps are faces"
        if self.pose_error_deg is None:
            return found
        return (
            f"{found}, pose within {self.pose_error_deg:.1f} degrees, "
            f"expression within {self.expression_error:.3f}, "
            f"identity {self.identity_baseline:+.2f} -> {self.identity_shift:+.2f}"
            + ("" if self.sharpness is None else f", {self.sharpness:.0%} as sharp")
        )


@dataclass(frozen=True, kw_only=True)
class FaceReading:
    """Measurements of one face."""

    face: Face
    embedding: Embedding


class FaceAnalyzer:
    """The models that read faces.

    Args:
        detector: Finds faces; inside its `with` block.
        sface: Computes identity embeddings.
    """

    def __init__(self, detector: FaceDetector, sface: SFace) -> None:
        self._detector = detector
        self._sface = sface

    @classmethod
    def load(cls, stack: ExitStack) -> "FaceAnalyzer":
        """Load the models; `stack` closes them.

        Raises:
            FaceswapError: A model file is missing.
        """
        detector = stack.enter_context(DETECTORS[DEFAULT_DETECTOR]())
        return cls(detector, SFace(find_model_file("sface")))

    def analyze(self, image: Image) -> FaceReading | None:
        """Return the largest face of an image; None if no face is found."""
        return self._analyze_first(image, self._detector.detect(image))

    def analyze_near(self, image: Image, face: Face) -> FaceReading | None:
        """Return the face at the position that `face` had in a similar image; None if not found."""
        return self._analyze_first(image, self._detector.track(ArrayImage(image=image), [face]))

    def _analyze_first(self, image: Image, faces: Sequence[Face]) -> FaceReading | None:
        """Return the first of the faces in an image with its embedding."""
        for face in faces[:1]:
            return FaceReading(face=face, embedding=self._sface.embed(image, face.landmarks))
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceFaces:
    """Validation faces of one identity in which a face was found."""

    dataset: IdentityDataset
    indices: AnyArray
    """Their indices in the dataset, int64 (N,)."""
    readings: Sequence[FaceReading]

    @property
    def mean_embedding(self) -> Embedding:
        """The identity's embedding: the normalized mean over the faces."""
        return compute_centroid(np.stack([one.embedding for one in self.readings]))

    @property
    def sharpness(self) -> float:
        """Their mean sharpness, see `faces.crops.measure_sharpness`."""
        crops = (self.dataset.pixels[index][..., :3] for index in self.indices)
        return float(np.mean([measure_sharpness(np.ascontiguousarray(crop)) for crop in crops]))


class SwapEvaluator:
    """Measures swaps of validation faces with face models that training does not use.

    The models are loaded on first use. Their failures never stop training: they are returned as a
    text, and nothing is measured any more. Only after memory ran out is it tried again.

    Args:
        loader: Gives the identities and their faces.
        load_analyzer: Loads the models.
    """

    def __init__(
        self,
        loader: FaceLoader,
        *,
        load_analyzer: Callable[[ExitStack], FaceAnalyzer] = FaceAnalyzer.load,
    ) -> None:
        self.loader = loader
        self._failure = ""
        self._load_analyzer = load_analyzer
        self._stack = ExitStack()
        self._analyzer: FaceAnalyzer | None = None
        self._references: list[ReferenceFaces] = []

    def evaluate(self, model: SwapModel) -> SwapMetrics | str:
        """Compare validation faces with their swaps; a text says why that failed.

        Args:
            model: In evaluation mode, without gradients.
        """
        if self._failure:
            return self._failure
        try:
            return self._evaluate(model)
        except FaceswapError as error:
            self._failure = error.message
        except (cv2.error, ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
            if not is_out_of_memory(error):
                self._failure = f"the face models failed: {error}"
        # Outside `except`, whose traceback would keep the failed swaps alive.
        self.close()
        torch.cuda.empty_cache()
        return self._failure or "memory ran out; the next preview tries again"

    def close(self) -> None:
        """Release the models; harmless when repeated."""
        self._analyzer = None
        self._references = []
        self._stack.close()

    def _evaluate(self, model: SwapModel) -> SwapMetrics | str:
        if self._analyzer is None:
            self._analyzer = self._load_analyzer(self._stack)
            self._references = [
                read_reference_faces(self._analyzer, dataset) for dataset in self.loader.datasets
            ]
        for one in self._references:
            if not one.readings:
                return f"no face is found in the validation crops of {one.dataset.name}"
        targets = [*self._references[1:], self._references[0]]
        return compute_swap_metrics(
            [
                pair
                for source, target in zip(self._references, targets, strict=True)
                for pair in self._face_pairs(model, source, target)
            ]
        )

    def _face_pairs(
        self, model: SwapModel, source: ReferenceFaces, target: ReferenceFaces
    ) -> Iterator["FacePair"]:
        """Yield the faces of `source` with their swaps to `target`."""
        assert self._analyzer is not None
        faces = self.loader.clean_batch(source.dataset, source.indices).target[0]
        swapped = model.swap_with_detail(faces, target.dataset.name)
        swaps = to_images(swapped.image)
        masks = [None] * len(swaps) if swapped.mask is None else to_masks(swapped.mask)
        target_sharpness = max(target.sharpness, 1e-6)
        for index, original, swap, mask in zip(
            source.indices, source.readings, swaps, masks, strict=True
        ):
            pixels = source.dataset.pixels[index]
            pasted = paste_into_crop(swap, pixels, mask=mask, coverage=self.loader.model.coverage)
            yield FacePair(
                original=original,
                swapped=self._analyzer.analyze_near(pasted, original.face),
                identity_axis=target.mean_embedding - source.mean_embedding,
                sharpness=math.sqrt(measure_sharpness(pasted) / target_sharpness),
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class FacePair:
    """A face and its swap."""

    original: FaceReading
    swapped: FaceReading | None
    """None if no face was found in it."""
    identity_axis: Embedding
    """Embedding of the target identity less that of the original one: its product with a face's
    embedding says how far that has moved towards the target."""
    sharpness: float = 1.0
    """Of the swap, as a part of the target identity's own faces'."""


def read_reference_faces(analyzer: FaceAnalyzer, dataset: IdentityDataset) -> ReferenceFaces:
    """Measure some validation faces of an identity."""
    indices = evenly_spaced(dataset.val_indices, FACES_PER_IDENTITY)
    readings = [
        analyzer.analyze(np.ascontiguousarray(dataset.pixels[index][..., :3])) for index in indices
    ]
    is_found = np.array([one is not None for one in readings], dtype=bool)
    return ReferenceFaces(
        dataset=dataset,
        indices=indices[is_found],
        readings=[one for one in readings if one is not None],
    )


def compute_swap_metrics(pairs: Sequence[FacePair]) -> SwapMetrics:
    """Return how faces and their swaps compare on average.

    Poses and blendshapes are compared with those measured in the original's crop, not with the
    record's: in its frame a head is rolled, and has another position before the camera.
    """
    found = [(pair, pair.swapped) for pair in pairs if pair.swapped is not None]
    return SwapMetrics(
        detection_rate=len(found) / len(pairs),
        pose_error_deg=_mean(
            [
                float(pose_error_deg(after.face.pose, pair.original.face.pose))
                for pair, after in found
            ]
        ),
        expression_error=_mean(
            [
                float(expression_error(pair.original.face.blendshapes, after.face.blendshapes))
                for pair, after in found
            ]
        ),
        identity_shift=_mean(
            [float(after.embedding @ pair.identity_axis) for pair, after in found]
        ),
        identity_baseline=float(
            np.mean([pair.original.embedding @ pair.identity_axis for pair in pairs])
        ),
        sharpness=_mean([pair.sharpness for pair, _ in found]),
    )


def paste_into_crop(swap: Image, pixels: AnyArray, *, mask: Mask | None, coverage: float) -> Image:
    """Composite a swap into its crop as `convert` would: inside the outline and the predicted mask.

    Args:
        swap: uint8 (d, d, 3): a network's output for the central part of the crop.
        pixels: uint8 (S, S, 4): the crop and its mask levels.
        mask: float32 (s, s): the face mask that the network predicts, if it does.
        coverage: Side of that part as a fraction of the crop's.
    """
    crop = np.ascontiguousarray(pixels[..., :3])
    alignment = FaceAlignment.from_square(crop.shape[0]).center_crop(coverage)
    levels = np.rint(255 * unpack_face_mask(pixels[..., 3])).astype(np.uint8)
    outline = np.asarray(alignment.crop(levels, MASK_PX) / 255, dtype=np.float32)
    return PLAIN_COMPOSITOR.paste(crop, swap, intersect_masks(outline, mask), alignment)


PLAIN_COMPOSITOR = Compositor(feather=0, color_transfer=None)
"""Pastes the output unchanged, with a hard edge."""


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean; None for no values."""
    return float(np.mean(values)) if values else None
