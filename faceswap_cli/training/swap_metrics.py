"""What swaps keep and what they move: pose and expression stay, the person changes.

Knows what models that read faces make of held-out faces and of their swaps; refuses to know how a
swap is learnt, and is never a reason for training to stop.
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
"""Held-out faces of each person that are read: more would take longer than a sheet."""


@dataclass(frozen=True, kw_only=True)
class SwapMetrics:
    """How held-out faces and their swaps compare; None where no swap was found to be a face."""

    found: float
    """Part of the swaps in which a face is found, 0 to 1."""
    pose_degrees: float | None
    """Mean pose error against the original (`faces.head_pose.pose_error_deg`), degrees."""
    expression: float | None
    """Mean expression error against the original (`faces.types.expression_error`), 0 to 1."""
    identity: float | None
    """Mean cosine to the wanted person less that to the original's, -2 to 2: high is moved."""
    unswapped: float
    """The same of the originals: what no swap at all would show."""

    def __str__(self) -> str:
        """Return it as one line says it."""
        found = f"{self.found:.0%} of swaps are faces"
        if self.pose_degrees is None:
            return found
        return (
            f"{found}, pose within {self.pose_degrees:.1f} degrees, "
            f"expression within {self.expression:.3f}, "
            f"identity {self.unswapped:+.2f} -> {self.identity:+.2f}"
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
    """Looks at swaps with other models' eyes, which are opened at the first look.

    Args:
        loader: Gives the people and their faces.
        load_analyzer: Loads the models.
    """

    def __init__(
        self,
        loader: FaceLoader,
        *,
        load_analyzer: Callable[[ExitStack], FaceAnalyzer] = FaceAnalyzer.load,
    ) -> None:
        self.feed = loader
        self.failure = ""
        """Why nothing can be said; empty while something can."""
        self._load_analyzer = load_analyzer
        self._stack = ExitStack()
        self._analyzer: FaceAnalyzer | None = None
        self._references: list[ReferenceFaces] = []

    def evaluate(self, model: SwapModel) -> SwapMetrics | None:
        """Compare faces with their swaps; None, and a `reason`, where that cannot be done.

        Args:
            model: In evaluation mode, without gradients.
        """
        if self.failure:
            return None
        try:
            return self._evaluate(model)
        except FaceswapError as error:
            self.failure = error.message
        except (cv2.error, ImportError, OSError, RuntimeError, ValueError) as error:
            # Whatever the readers stumble over, training goes on.
            self.failure = f"the models that read faces failed: {error}"
        self.close()
        return None

    def close(self) -> None:
        """Let go of the models; harmless when repeated."""
        self._analyzer = None
        self._stack.close()

    def _evaluate(self, model: SwapModel) -> SwapMetrics | None:
        """Compare, with open eyes."""
        if self._analyzer is None:
            self._analyzer = self._load_analyzer(self._stack)
            self._references = [
                read_reference_faces(self._analyzer, person) for person in self.feed.datasets
            ]
        for one in self._references:
            if not one.readings:
                self.failure = f"no face is found in the held-out crops of {one.dataset.name}"
                return None
        after = [*self._references[1:], self._references[0]]
        return compute_swap_metrics(
            [
                pair
                for one, wanted in zip(self._references, after, strict=True)
                for pair in self._face_pairs(model, one, wanted)
            ]
        )

    def _face_pairs(
        self, model: SwapModel, source: ReferenceFaces, target: ReferenceFaces
    ) -> Iterator["FacePair"]:
        """Swap one person's faces to another, and read the swaps."""
        assert self._analyzer is not None
        faces = self.feed.clean_batch(source.dataset, source.indices).target[0]
        swapped = model.swap(faces, target.dataset.name)
        swaps = to_images(swapped.image)
        masks = [None] * len(swaps) if swapped.mask is None else to_masks(swapped.mask)
        for place, before, swap, mask in zip(
            source.indices, source.readings, swaps, masks, strict=True
        ):
            pixels = source.dataset.pixels[place]
            picture = paste_into_crop(swap, pixels, mask=mask, coverage=self.feed.model.coverage)
            yield FacePair(
                original=before,
                swapped=self._analyzer.analyze_near(picture, before.face),
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
        found=len(seen) / len(pairs),
        pose_degrees=_mean(
            [
                float(pose_error_deg(after.face.pose, pair.original.face.pose))
                for pair, after in seen
            ]
        ),
        expression=_mean(
            [
                float(expression_error(pair.original.face.blendshapes, after.face.blendshapes))
                for pair, after in seen
            ]
        ),
        identity=_mean([float(after.embedding @ pair.identity_axis) for pair, after in seen]),
        unswapped=float(np.mean([pair.original.embedding @ pair.identity_axis for pair in pairs])),
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
