"""Exported models, run by ONNX Runtime: `OnnxModel.open` reads `.onnx` and `.dfm` files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceswap_cli.core.errors import CheckpointError, ConfigurationError, DeviceError
from faceswap_cli.core.fileio import translate_os_errors
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.exchange.model_info import ModelInfo
from faceswap_cli.exchange.whole_face import WHOLE_FACE_CENTER, WHOLE_FACE_SIDE

INSTALL_HINT = 'pip install "faceswap-cli[onnx]"'
"""Command that installs ONNX Runtime and what writes ONNX files."""
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class DfmNames:
    """Names in a `.dfm` file. Programs read the outputs by position."""

    FACE = "in_face:0"
    MORPH = "morph_value:0"
    OUTPUTS = ("out_face_mask:0", "out_celeb_face:0", "out_celeb_face_mask:0")


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxModel:
    """A model in an `.onnx` or `.dfm` file, open to run."""

    info: ModelInfo
    session: Any
    """ONNX Runtime's session."""
    is_dfm: bool

    @property
    def provider(self) -> str:
        """What computes: the name of ONNX Runtime's first provider."""
        return str(self.session.get_providers()[0])

    @classmethod
    def open(cls, path: Path, *, device: str = "auto") -> "OnnxModel":
        """Open a file. A `.dfm` file of another program swaps in an identity of the file's name.

        Args:
            path: The file.
            device: `auto`, `cpu`, `cuda` or `mps`; ONNX Runtime knows CPUs and NVIDIA's GPUs.

        Raises:
            ConfigurationError: ONNX Runtime is not installed.
            DeviceError: It does not have the device.
            InputError: The file cannot be read.
            CheckpointError: It is not such a model.
        """
        with translate_os_errors(path):
            content = path.read_bytes()
        try:
            session = open_session(content, device=device)
            is_dfm = session.get_inputs()[0].name == DfmNames.FACE
            info = _read_info(session, path.stem, is_dfm=is_dfm)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise CheckpointError(
                f"{path} is not a model that this version can run",
                hint="give a file that faceswap export wrote, or a .dfm file",
            ) from error
        return cls(info=info, session=session, is_dfm=is_dfm)

    def infer(self, crops: Sequence[Image]) -> list[tuple[Image, Mask | None]]:
        """Return swapped crops, uint8 (S, S, 3) RGB, and masks, float32 (S, S) in [0, 1]."""
        faces = np.stack(crops)
        return self._infer_dfm(faces) if self.is_dfm else self._infer_plain(faces)

    def _infer_plain(self, faces: Image) -> list[tuple[Image, Mask | None]]:
        """Run the network's own graph on images (B, S, S, 3)."""
        planes = np.ascontiguousarray(faces.transpose(0, 3, 1, 2)) / np.float32(127.5) - 1
        images, *masks = run_session(self.session, planes)
        levels = to_levels((images.transpose(0, 2, 3, 1) + 1) / 2)
        flat = masks[0][:, 0] if masks else [None] * len(levels)
        return list(zip(levels, flat, strict=True))

    def _infer_dfm(self, faces: Image) -> list[tuple[Image, Mask | None]]:
        """Run a graph of the whole face on images (B, S, S, 3)."""
        bgr = np.ascontiguousarray(faces[..., ::-1]) / np.float32(255)
        face_mask, images, swap_mask = run_session(self.session, bgr)
        masks = np.minimum(face_mask, swap_mask)[..., 0].clip(0, 1)
        return list(zip(to_levels(images[..., ::-1]), masks, strict=True))


def to_levels(values: AnyArray) -> Image:
    """Return values in [0, 1] as uint8."""
    return np.asarray(np.round(values * 255).clip(0, 255), dtype=np.uint8)


def open_session(content: bytes, *, device: str = "cpu") -> Any:  # noqa: ANN401
    """Return ONNX Runtime's session of a file's content; it can read no other file.

    Raises:
        ConfigurationError: ONNX Runtime is not installed.
        DeviceError: It does not have the device.
        ValueError: The content is not a model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigurationError("onnxruntime is not installed", hint=INSTALL_HINT) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    providers = _select_providers(device, onnxruntime.get_available_providers())
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # its errors have no other base
        raise ValueError(str(error)) from error


def run_session(session: Any, faces: AnyArray) -> list[AnyArray]:  # noqa: ANN401
    """Return the outputs for a batch of faces; one by one if the file allows no other batch.

    Raises:
        CheckpointError: The file fails on them.
    """
    face_input, *others = session.get_inputs()
    # Some `.dfm` files morph between two identities: 1 is the target identity entirely.
    morph = {one.name: np.ones(1, np.float32) for one in others if one.name == DfmNames.MORPH}
    is_fixed = face_input.shape[0] == 1
    batches = np.split(faces, len(faces)) if is_fixed else [faces]
    try:
        outputs = [session.run(None, {face_input.name: batch, **morph}) for batch in batches]
    except Exception as error:  # ONNX Runtime's errors have no other base
        raise CheckpointError(
            "ONNX Runtime cannot run this model",
            hint="give a file that faceswap export wrote, or a .dfm file",
        ) from error
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _select_providers(device: str, available: Sequence[str]) -> list[str]:
    """Return the providers for a device.

    Raises:
        DeviceError: This ONNX Runtime does not have it.
    """
    if device in ("cuda", "mps") and (device == "mps" or CUDA not in available):
        raise DeviceError(
            f"--device {device}: this ONNX Runtime does not compute there",
            hint="use --device cpu, or install onnxruntime-gpu for an NVIDIA GPU",
        )
    return [one for one in (CUDA, CPU) if one in available and (one == CPU or device != "cpu")]


def _read_info(session: Any, name: str, *, is_dfm: bool) -> ModelInfo:  # noqa: ANN401
    """Return what a file says about its model.

    Raises:
        KeyError, ValueError, TypeError: It is not of a kind that is known.
    """
    metadata = session.get_modelmeta().custom_metadata_map
    if not is_dfm or "faceswap_format" in metadata:
        return ModelInfo.from_metadata(metadata)
    _, height, width, channels = session.get_inputs()[0].shape
    if height != width or channels != 3 or len(session.get_outputs()) != len(DfmNames.OUTPUTS):
        raise ValueError("the input is not a square image, or there are not three outputs")
    return ModelInfo(
        identity=name,
        size_px=int(height),
        coverage=WHOLE_FACE_SIDE,
        center=WHOLE_FACE_CENTER,
        color_order="BGR",
    )
