"""Trained models as ONNX graphs, written by torch's exporter: `build_graph`, `export_graph`.

A graph swaps in one identity. For an `.onnx` file it has the network's own input and output, for a
`.dfm` file those that DeepFaceLive and FaceFusion expect, with the change of framing inside.
"""

import copy
import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from faceswap_cli.core.errors import CheckpointError, ConfigurationError
from faceswap_cli.exchange.model_info import ModelInfo
from faceswap_cli.exchange.onnx_session import INSTALL_HINT, DfmNames, open_session, run_session
from faceswap_cli.exchange.whole_face import Indices, Weights, WholeFace
from faceswap_models.base import SwapModel

OPSET = 16
"""Version of the operators. DeepFaceLive comes with ONNX Runtime 1.11, which reads up to this."""
IR_VERSION = 8
"""Version of the file format that came with this opset."""
MAX_DIFFERENCE = 1e-3
"""Largest accepted difference between an exported graph and the network, of a range of 1 or 2."""
TEST_BATCHES = (1, 3)
"""Batches with which a graph is compared with the network."""

MEAN_OVAL_CENTER, MEAN_OVAL_RADII = (0.5, 0.455), (0.27, 0.355)
"""Ellipse in the unit square that fits the mean mask of two filmed and eight synthetic people with
an intersection over union of 0.90 to 0.92: the mask of networks that predict none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportGraph:
    """A module to export, and its description."""

    module: nn.Module
    """Maps a batch of faces to the outputs."""
    input_shape: tuple[int, int, int]
    """Shape of one face."""
    value_range: tuple[float, float]
    """Range of the input's values."""
    input_name: str
    output_names: tuple[str, ...]
    info: ModelInfo


class NetworkGraph(nn.Module):
    """The network itself: faces (B, 3, S, S), RGB in [-1, 1], to image and mask, if there is one.

    Args:
        model: The trained model.
        identity: Identity to swap in.
    """

    def __init__(self, model: SwapModel, identity: str) -> None:
        super().__init__()
        self.model = model
        self.identity = identity

    def forward(self, faces: Tensor) -> tuple[Tensor, ...]:
        """Return images (B, 3, D, D) in [-1, 1] and masks (B, 1, S, S) in [0, 1]."""
        output = self.model.swap_with_detail(faces, self.identity)
        return (output.image,) if output.mask is None else (output.image, output.mask)


class PlainLayerNorm(nn.Module):
    """`nn.LayerNorm` by matrix products: its own operator is of opset 17, a mean's of 18.

    Args:
        norm: The layer to replace: over the last axis, without weights.
    """

    average: Tensor
    """(C, 1): features @ average is their mean."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        assert not norm.elementwise_affine
        (channels,) = norm.normalized_shape
        self.eps = norm.eps
        self.register_buffer("average", torch.full((channels, 1), 1 / channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C) of mean 0 and variance 1."""
        centered = features - features @ self.average
        return centered / ((centered * centered) @ self.average + self.eps).sqrt()


class SelectPixels(nn.Module):
    """Selects rows and columns of images (B, C, H, W): crops them, or repeats their edges.

    Args:
        rows: Indices (H',).
        columns: Indices (W',).
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Indices, columns: Indices) -> None:
        super().__init__()
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("columns", torch.from_numpy(columns))

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, H', W')."""
        return images.index_select(2, self.rows).index_select(3, self.columns)


class Reduce(nn.Module):
    """Scales images (B, C, H, H) down by area, with two matrix products.

    torch's own would be exported for whole factors only.

    Args:
        side_in: Side H.
        side_out: Side S of the result, at most H.
    """

    weights: Tensor
    """(S, H): parts of the input's pixels that an output's pixel consists of."""

    def __init__(self, side_in: int, side_out: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.from_numpy(area_weights(side_in, side_out)))

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, C, S, S)."""
        return self.weights @ images @ self.weights.T


class DfmGraph(nn.Module):
    """The network in the whole-face square: faces (B, H, H, 3), BGR in [0, 1].

    Args:
        model: The trained model.
        identity: Identity to swap in.
        square: The whole-face square.
    """

    mean_mask: Tensor
    """(S, S): for networks that predict none."""
    inside: Tensor
    """(H, H): 1 in the network's square, 0 around it."""

    def __init__(self, model: SwapModel, identity: str, square: WholeFace) -> None:
        super().__init__()
        self.model = model
        self.identity = identity
        self.crop = SelectPixels(*(square.crop_indices(axis) for axis in (1, 0)))
        self.paste = SelectPixels(*(square.paste_indices(axis) for axis in (1, 0)))
        inside = np.outer(*(square.inside_weights(axis) for axis in (1, 0)))
        self.register_buffer("inside", torch.from_numpy(inside))
        # Their square has the pixels of the output, detail included; the network's input fewer.
        size_px = model.model_settings.size_px
        self.reduce = Reduce(square.size_px, size_px) if square.size_px > size_px else nn.Identity()
        mask = mean_mask(square.size_px, square.coverage)
        self.register_buffer("mean_mask", torch.from_numpy(mask))

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mask, swapped faces and mask, (B, H, H, C) in [0, 1].

        Around the network's square the faces stay as they are, and the mask is 0.
        """
        rgb = faces.flip(3).permute(0, 3, 1, 2)
        crops = self.crop(rgb)
        output = self.model.swap_with_detail(2 * self.reduce(crops) - 1, self.identity)
        masks = self.mean_mask.expand_as(crops[:, :1])
        if output.mask is not None:
            masks = functional.interpolate(output.mask, size=masks.shape[-2:], mode="bilinear")
        mask = (self.inside * self.paste(masks)).clamp(0, 1).permute(0, 2, 3, 1)
        swapped = self.inside * self.paste((output.image + 1) / 2) + (1 - self.inside) * rgb
        return mask, swapped.clamp(0, 1).permute(0, 2, 3, 1).flip(3), mask


def area_weights(side_in: int, side_out: int) -> Weights:
    """Return the part of each of `side_in` pixels in each of `side_out`, float32 (out, in)."""
    edges = np.arange(side_out + 1) * (side_in / side_out)
    pixels = np.arange(side_in)
    starts = np.maximum(edges[:-1, None], pixels)
    ends = np.minimum(edges[1:, None], pixels + 1)
    return np.asarray(np.clip(ends - starts, 0, 1) * (side_out / side_in), dtype=np.float32)


def mean_mask(size_px: int, coverage: float) -> Weights:
    """Return the mask of a mean face in a network's square, float32 (S, S), soft by two pixels."""
    unit = 0.5 + ((np.arange(size_px) + 0.5) / size_px - 0.5) * coverage
    x, y = (
        (unit - middle) / radius
        for middle, radius in zip(MEAN_OVAL_CENTER, MEAN_OVAL_RADII, strict=True)
    )
    radius_px = min(MEAN_OVAL_RADII) / coverage * size_px
    return np.clip((1 - np.hypot(x, y[:, None])) * radius_px / 2 + 0.5, 0, 1).astype(np.float32)


def build_graph(model: SwapModel, info: ModelInfo, *, as_dfm: bool) -> ExportGraph:
    """Return the graph that swaps in `info.identity`; it has a copy of the model.

    Args:
        model: The trained model, in evaluation mode on the CPU.
        info: Describes the network's own input.
        as_dfm: Whether it is for a `.dfm` file.
    """
    model = copy.deepcopy(model)
    _replace_layer_norms(model)
    if as_dfm:
        square = WholeFace(size_px=model.model_settings.output_px, coverage=info.coverage)
        return ExportGraph(
            module=DfmGraph(model, info.identity, square).eval(),
            input_shape=(square.side_px, square.side_px, 3),
            value_range=(0, 1),
            input_name=DfmNames.FACE,
            output_names=DfmNames.OUTPUTS,
            info=ModelInfo(
                identity=info.identity,
                size_px=square.side_px,
                coverage=square.side,
                center=square.center,
                color_order="BGR",
                origins=info.origins,
            ),
        )
    module = NetworkGraph(model, info.identity).eval()
    shape = (3, info.size_px, info.size_px)
    with torch.inference_mode():
        outputs = len(module(torch.zeros(1, *shape)))
    return ExportGraph(
        module=module,
        input_shape=shape,
        value_range=(-1, 1),
        input_name="face",
        output_names=("image", "mask")[:outputs],
        info=info,
    )


def export_graph(graph: ExportGraph) -> bytes:
    """Return a graph as the content of an ONNX file, for batches of any size.

    Raises:
        ConfigurationError: The packages that write ONNX are not installed.
    """
    for package in ("onnx", "onnxscript"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigurationError(f"{package} is not installed", hint=INSTALL_HINT) from error
    with _quiet_exporter(), torch.inference_mode():
        program = torch.onnx.export(
            graph.module,
            (torch.zeros(2, *graph.input_shape),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[graph.input_name],
            output_names=list(graph.output_names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto: Any = program.model_proto
    proto.ir_version = IR_VERSION
    _set_metadata(proto, graph.info.to_metadata())
    content: bytes = proto.SerializeToString()
    return content


def check_export(content: bytes, graph: ExportGraph) -> float:
    """Return the largest difference between an exported graph and the network.

    Raises:
        CheckpointError: It is more than `MAX_DIFFERENCE`.
    """
    session = open_session(content)
    rng = np.random.default_rng(0)
    differences = []
    for batch in TEST_BATCHES:
        faces = rng.uniform(*graph.value_range, (batch, *graph.input_shape)).astype(np.float32)
        with torch.inference_mode():
            expected: Sequence[Tensor] = graph.module(torch.from_numpy(faces))
        actual = run_session(session, faces)
        differences += [
            float(np.abs(one.numpy() - other).max())
            for one, other in zip(expected, actual, strict=True)
        ]
    largest = max(differences)
    if not largest <= MAX_DIFFERENCE:  # so that NaN is refused too
        raise CheckpointError(
            f"the exported file differs from the network by {largest:.2g}, and was not written",
            hint=f"differences up to {MAX_DIFFERENCE:g} are accepted; please report this network",
        )
    return largest


def _replace_layer_norms(module: nn.Module) -> None:
    """Replace every `nn.LayerNorm` inside a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.LayerNorm):
            setattr(module, name, PlainLayerNorm(child))
        else:
            _replace_layer_norms(child)


def _set_metadata(proto: Any, metadata: Mapping[str, str]) -> None:  # noqa: ANN401
    """Replace a file's metadata and its producer."""
    proto.producer_name, proto.producer_version = "faceswap", metadata["faceswap_version"]
    del proto.metadata_props[:]
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's notes on packages it could support, and on converting the opset."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
