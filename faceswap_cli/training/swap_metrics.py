"""`SwapEvaluator`: what swaps preserve (pose, expression) and how far they move the identity.

Swaps of validation faces are pasted into their crops and read by a face detector and SFace.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.embedding import Embedding, SFace, compute_centroid
from faceswap_cli.faces.head_pose import pose_error_deg
from faceswap_cli.faces.masks import MASK_PX, intersect_masks
from faceswap_cli.faces.types import Face, FaceDetector, expression_error
from faceswap_cli.training.dataset import IdentityDataset, evenly_spaced, unpack_face_mask
from faceswap_cli.training.loader import FaceLoader
from faceswap_models.base import SwapModel
from faceswap_models.tensors import to_images, to_masks

FACES_PER_IDENTITY = 8
"""Validation faces of each identity that are read: more would take longer than a preview."""


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
    """Mean cosine to the target identity less that to the original one, -2 to 2; higher is better."""
    identity_baseline: float
    """The same for the unswapped faces."""

    def __str__(self) -> str:
        """Return the metrics in one line."""
        found = f"{self.detection_rate:.0%} of swaps are faces"
        if self.pose_error_deg is None:
            return found
        return (
            f"{found}, pose within {self.pose_error_deg:.1f} degrees, "
            f"expression within {self.expression_error:.3f}, "
            f"identity {self.identity_baseline:+.2f} -> {self.identity_shift:+.2f}"
        )


@dataclass(frozen=True, kw_only=True)
class FaceReading:
    """One face as the models read it."""

    face: Face
    embedding: Embedding


class FaceAnalyzer:
    """The models that read faces.

    Args:
        detector: Finds faces; inside its `with` block.
        sface: Tells people apart.
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
        """Read the largest face of an image, if there is one."""
        return self._analyze_first(image, self._detector.detect(image))

    def analyze_near(self, image: Image, face: Face) -> FaceReading | None:
        """Read the face that is where `face` was in a like image, if it is still a face."""
        return self._analyze_first(image, self._detector.track(ArrayImage(image=image), [face]))

    def _analyze_first(self, image: Image, faces: Sequence[Face]) -> FaceReading | None:
        """Read the first of the faces in an image."""
        for face in faces[:1]:
            return FaceReading(face=face, embedding=self._sface.embed(image, face.landmarks))
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceFaces:
    """Held-out faces of one person that a face was found in."""

    dataset: IdentityDataset
    indices: AnyArray
    """Which of the person's faces they are, int64 (N,)."""
    readings: Sequence[FaceReading]

    @property
    def mean_embedding(self) -> Embedding:
        """The person's direction: that of the mean over the faces."""
        return compute_centroid(np.stack([one.embedding for one in self.readings]))


class SwapEvaluator:
    """Measures swaps of validation faces with face models that training does not use.

    The models are loaded on first use. Whatever they fail with is never a reason for training to
    stop: it is returned as a text, and nothing is measured any more.

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
        """Compare faces with their swaps; a text says why that cannot be done.

        Args:
            model: In evaluation mode, without gradients.
        """
        if self._failure:
            return self._failure
        try:
            return self._evaluate(model)
        except FaceswapError as error:
            self._failure = error.message
        except (cv2.error, ImportError, OSError, RuntimeError, ValueError) as error:
            self._failure = f"the face models failed: {error}"
        self.close()
        return self._failure

    def close(self) -> None:
        """Let go of the models; harmless when repeated."""
        self._analyzer = None
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
        swapped = model.swap(faces, target.dataset.name)
        swaps = to_images(swapped.image)
        masks = [None] * len(swaps) if swapped.mask is None else to_masks(swapped.mask)
        for place, before, swap, mask in zip(
            source.indices, source.readings, swaps, masks, strict=True
        ):
            pixels = source.dataset.pixels[place]
            pasted = paste_into_crop(swap, pixels, mask=mask, coverage=self.loader.model.coverage)
            yield FacePair(
                original=before,
                swapped=self._analyzer.analyze_near(pasted, before.face),
                identity_axis=target.mean_embedding - source.mean_embedding,
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class FacePair:
    """A face and its swap."""

    original: FaceReading
    swapped: FaceReading | None
    """None where no face was found."""
    identity_axis: Embedding
    """The wanted person's direction less the own: its product with a face's is how far the face
    has moved."""


def read_reference_faces(analyzer: FaceAnalyzer, dataset: IdentityDataset) -> ReferenceFaces:
    """Read some of a person's held-out faces."""
    places = evenly_spaced(dataset.val_indices, FACES_PER_IDENTITY)
    found = [
        analyzer.analyze(np.ascontiguousarray(dataset.pixels[place][..., :3])) for place in places
    ]
    is_found = np.array([one is not None for one in found], dtype=bool)
    return ReferenceFaces(
        dataset=dataset,
        indices=places[is_found],
        readings=[one for one in found if one is not None],
    )


def compute_swap_metrics(pairs: Sequence[FacePair]) -> SwapMetrics:
    """Return how faces and their swaps compare on average.

    Angles and coefficients are compared with those read in the original's crop, not with the
    record's: seen in its frame a head is rolled, and stands elsewhere before the camera.
    """
    seen = [(pair, pair.swapped) for pair in pairs if pair.swapped is not None]
    return SwapMetrics(
        detection_rate=len(seen) / len(pairs),
        pose_error_deg=_mean(
            [
                float(pose_error_deg(after.face.pose, pair.original.face.pose))
                for pair, after in seen
            ]
        ),
        expression_error=_mean(
            [
                float(expression_error(pair.original.face.blendshapes, after.face.blendshapes))
                for pair, after in seen
            ]
        ),
        identity_shift=_mean([float(after.embedding @ pair.identity_axis) for pair, after in seen]),
        identity_baseline=float(
            np.mean([pair.original.embedding @ pair.identity_axis for pair in pairs])
        ),
    )


def paste_into_crop(swap: Image, pixels: AnyArray, *, mask: Mask | None, coverage: float) -> Image:
    """Put a swap into its crop as a conversion would: inside the outline and the learned mask.

    Args:
        swap: uint8 (s, s, 3): the central part of the crop, as a network made it.
        pixels: uint8 (S, S, 4): the crop and its marks.
        mask: float32 (s, s): where the network saw the face, if it learns that.
        coverage: Side of that part as a fraction of the crop's.
    """
    crop = np.ascontiguousarray(pixels[..., :3])
    alignment = FaceAlignment.from_square(crop.shape[0]).center_crop(coverage)
    levels = np.rint(255 * unpack_face_mask(pixels[..., 3])).astype(np.uint8)
    outline = np.asarray(alignment.crop(levels, MASK_PX) / 255, dtype=np.float32)
    return PLAIN_COMPOSITOR.paste(crop, swap, intersect_masks(outline, mask), alignment)


PLAIN_COMPOSITOR = Compositor(feather=0, color_transfer=None)
"""Shows what the model drew as it drew it, up to the mask's edge."""


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return float(np.mean(values)) if values else None
