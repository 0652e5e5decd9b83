"""Write reference/licenses.md, what the program needs and under which terms.

`python docs/licenses.py` reads pyproject.toml, the installed packages' own metadata, the table of
model files and the weights in the tree; `tests/test_licenses.py` holds the page to them.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.core.model_files import MODEL_FILES

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/reference/licenses.md"
PROGRAM = "faceswap-cli"

SPDX: Mapping[str, str] = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "Boost Software License": "BSL-1.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
}
"""Names in packages' metadata -> SPDX identifiers."""
NOT_INSTALLED: Mapping[str, str] = {"tensorboard": "Apache-2.0"}
"""Licenses of packages that the checks do not install, as their authors state them."""
WEIGHTS: Mapping[str, str] = {"bases": "Apache-2.0", "masks": "Apache-2.0"}
"""Folder of weights in models/faceswap_models -> their license, for weights of our own making."""
VENDORED = (
    ("uPlot", "MIT", "draws the charts of the HTML pages", "faceswap_cli/pages/assets/uplot.js"),
)
"""Code of others in the tree: name, license, purpose, file."""

NOTES = """\
PyAV's wheels contain FFmpeg (LGPL-3.0-or-later) with x264 and x265 (GPL-2.0-or-later), SVT-AV1,
dav1d and libvpx (BSD). They are installed by pip from PyAV's own release; none of them is part of
this program's wheel. Whoever ships them together with the program must keep their terms as well.

torch's wheels for NVIDIA GPUs bring CUDA libraries (packages named `nvidia-*` and `cuda-*`, under
NVIDIA's terms) and Triton (MIT); the wheels for CPUs bring neither.
"""


def write_page() -> None:
    """Write the page."""
    PAGE.write_text(render_page(), encoding="utf-8")


def render_page() -> str:
    """Return the page's text."""
    direct = read_requirements()
    parts = [
        "<!-- Made by docs/licenses.py: change that, not this page. -->\n",
        "# Licenses\n",
        "The program is under the Apache License 2.0. What it needs is installed beside it and has",
        "terms of its own; all of them allow any use.\n",
        "## Packages\n",
        "The bounds are those of `pyproject.toml`; the version is what the checks ran with.",
        "The next major version, or minor version where those break, is outside of the bounds.\n",
        *table(["package", "bounds", "tested", "license"], map(_direct_row, direct)),
        "\n## Packages that those need\n",
        *table(["package", "tested", "license"], map(_indirect_row, find_indirect(direct))),
        f"\n{NOTES}",
        "## Weights\n",
        "Third-party files, in packages or downloaded: `faceswap doctor` says where they are. They",
        "are accepted only with this SHA-256.\n",
        *table(["file", "license", "from", "SHA-256"], map(list, model_file_rows())),
        "\nOur own, trained on rendered people only and shipped in the wheel.\n",
        *table(["file", "license", "SHA-256"], map(list, own_weight_rows())),
        "\n## Code of others in the tree\n",
        *table(["name", "license", "purpose", "file"], map(list, VENDORED)),
    ]
    return "\n".join(parts) + "\n"


def table(columns: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def read_requirements() -> list[Requirement]:
    """Return what pyproject.toml requires, with all extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    found = {Requirement(text).name: Requirement(text) for texts in lists for text in texts}
    return [one for name, one in sorted(found.items()) if name != PROGRAM]


def find_indirect(direct: Iterable[Requirement]) -> list[Distribution]:
    """Return the installed packages that others of the list need, by name."""
    waiting = [(one.name, frozenset(one.extras)) for one in direct]
    known = {canonicalize_name(name) for name, _ in waiting} | {PROGRAM}
    found: dict[str, Distribution] = {}
    while waiting:
        name, extras = waiting.pop()
        installed = find_distribution(name)
        for text in installed.requires or () if installed else ():
            needed = Requirement(text)
            key = canonicalize_name(needed.name)
            if key in known or not is_needed(needed, extras):
                continue
            known.add(key)
            if other := find_distribution(needed.name):
                found[key] = other
                waiting.append((needed.name, frozenset(needed.extras)))
    return [one for name, one in sorted(found.items()) if not name.startswith(("nvidia-", "cuda-"))]


def is_needed(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Return whether a requirement applies to this machine and these extras."""
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": one}) for one in ("", *extras))


def find_distribution(name: str) -> Distribution | None:
    """Return an installed package; None if it is not installed."""
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def find_license(installed: Distribution) -> str:
    """Return the license of a package by its metadata, as an SPDX expression."""
    metadata = installed.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = metadata.get_all("Classifier") or []
    names = [one.split(" :: ")[-1] for one in classifiers if one.startswith("License :: ")]
    text = names[0] if names else (metadata.get("License") or "unknown").splitlines()[0]
    return SPDX.get(text, text)


def _direct_row(requirement: Requirement) -> list[str]:
    """Return the row of a package that the program requires."""
    installed = find_distribution(requirement.name)
    bounds = f"`{','.join(sorted(str(requirement.specifier).split(','), reverse=True))}`"
    if installed is None:
        return [requirement.name, bounds, "-", NOT_INSTALLED[requirement.name]]
    return [requirement.name, bounds, _short(installed), find_license(installed)]


def _indirect_row(installed: Distribution) -> list[str]:
    """Return the row of a package that another one requires."""
    return [canonicalize_name(installed.name), _short(installed), find_license(installed)]


def _short(installed: Distribution) -> str:
    """Return a package's version without its build, such as `+cpu`."""
    return installed.version.partition("+")[0]


def model_file_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each third-party model file."""
    for one in MODEL_FILES.values():
        packages = [f"{source.package} {source.version}" for source in one.packages]
        origin = ", ".join([*packages, *([f"<{one.url}>"] if one.url else [])])
        yield f"`{one.file}`", one.license, origin, f"`{one.sha256}`"


def own_weight_rows() -> Iterator[tuple[str, ...]]:
    """Yield a row for each file of weights in the tree."""
    folder = ROOT / "models/faceswap_models"
    for path in sorted(folder.rglob("*.safetensors")):
        name = path.relative_to(folder).as_posix()
        yield f"`{name}`", WEIGHTS[name.split("/")[0]], f"`{sha256_file(path)}`"


if __name__ == "__main__":
    write_page()
