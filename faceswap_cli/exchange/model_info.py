"""What an exported file says about the model in it: `ModelInfo`, to and from ONNX metadata."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from faceswap_cli import __version__
from faceswap_cli.provenance.consent import (
    Origin,
    combined_consent_digest,
    origins_from_json,
    origins_to_json,
)

FORMAT = "1"
"""Version of the metadata."""
ONNX_SUFFIXES = (".onnx", ".dfm")
"""Endings of the files that ONNX Runtime runs."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The identity of an exported model, and the square of a face that it gets."""

    identity: str
    """Identity it swaps in."""
    size_px: int
    """Side of its input and output."""
    coverage: float
    """Side of its square, as a part of the unit square's."""
    center: tuple[float, float] = (0.5, 0.5)
    """Center (x, y) of its square in the unit square."""
    color_order: str = "RGB"
    """Order of the channels: RGB, or BGR in a `.dfm` file."""
    origins: tuple[Origin, ...] = ()
    """Digests of the sets it was trained on."""

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of an ONNX file."""
        return {
            "faceswap_format": FORMAT,
            "faceswap_version": __version__,
            "identity": self.identity,
            "size_px": str(self.size_px),
            "coverage": repr(self.coverage),
            "center": json.dumps(self.center),
            "color_order": self.color_order,
            "origins": origins_to_json(self.origins),
            "consent_sha256": combined_consent_digest(self.origins) or "",
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "ModelInfo":
        """Return what `to_metadata` wrote.

        Raises:
            KeyError, ValueError, TypeError: The file is of another program, or damaged.
        """
        if metadata["faceswap_format"] != FORMAT:
            raise ValueError(f"format {metadata['faceswap_format']}")
        identity = metadata["identity"]
        if not identity.isprintable():  # it is shown in terminals
            raise ValueError("an identity with control characters")
        x, y = json.loads(metadata["center"])
        return cls(
            identity=identity,
            size_px=int(metadata["size_px"]),
            coverage=float(metadata["coverage"]),
            center=(float(x), float(y)),
            color_order=metadata["color_order"],
            origins=origins_from_json(metadata["origins"]),
        )
