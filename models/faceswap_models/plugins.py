"""What other installed packages add by entry points, such as `faceswap.backends`."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points

BACKENDS, DETECTORS, METRICS = "faceswap.backends", "faceswap.detectors", "faceswap.metrics"
"""Groups of entry points."""


class PluginError(Exception):
    """An entry point of another package that cannot be used."""


@cache
def find_plugins(group: str) -> Mapping[str, EntryPoint]:
    """Return the entry points of a group by name, importing none.

    A name is an identifier, since it is typed and is a part of file names; others are left out.
    """
    return {one.name: one for one in entry_points(group=group) if one.name.isidentifier()}


def load_plugin(entry_point: EntryPoint) -> object:
    """Import what an entry point names.

    Raises:
        PluginError: The package fails when it is imported, whatever the reason.
    """
    try:
        return entry_point.load()
    except Exception as error:  # another package's code
        raise PluginError(describe_failure(entry_point, str(error))) from error


def describe_failure(entry_point: EntryPoint, reason: str) -> str:
    """Return a line that names an entry point, its package, and why it cannot be used."""
    package = entry_point.dist.name if entry_point.dist else "an unknown package"
    kind = entry_point.group.partition(".")[2].removesuffix("s")
    return f'the {kind} "{entry_point.name}" of {package} cannot be used: {reason}'
