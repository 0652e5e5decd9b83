"""Networks with shapes and without values: `build_on_meta` allocates no memory for weights.

A header from an unknown source may describe networks of terabytes; what they are is known from
their shapes alone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from faceswap_models.base import SwapModel


def build_on_meta(build: Callable[[], SwapModel]) -> SwapModel:
    """Return the model that `build` builds, with all of its tensors on the `meta` device."""
    with torch.device("meta"), _SkipRandomValues():
        return build()


class _SkipRandomValues(TorchFunctionMode):
    """Leaves out the random initial values: on `meta` they cost a second of imports."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        named = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else named["tensor"]
        return func(*args, **named)
