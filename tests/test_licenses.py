"""Licenses and versions of everything that the program needs are on the page."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from packaging.utils import canonicalize_name

from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.core.model_files import MODEL_FILES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/reference/licenses.md").read_text(encoding="utf-8")
ALLOWED = frozenset(
    {"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "Zlib", "PSF-2.0"}
    | {"MPL-2.0", "BSL-1.0", "CC0-1.0", "CC-BY-4.0", "MIT-0", "MIT-CMU", "LLVM-exception"}
    | {"Unlicense", "HPND", "BlueOak-1.0.0"}
)
"""Terms that a program under the Apache License 2.0 can be used with for any purpose."""


def load_script() -> ModuleType:
    """Import docs/licenses.py."""
    spec = importlib.util.spec_from_file_location("licenses", ROOT / "docs/licenses.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def rows() -> dict[str, list[str]]:
    """Return the cells of the page's tables by the first one."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_every_package_is_listed_with_its_bounds() -> None:
    """As pyproject.toml has them; run `python docs/licenses.py` after a change."""
    listed = rows()
    for requirement in script.read_requirements():
        bounds = set(listed[requirement.name][0].strip("`").split(","))
        assert bounds == set(str(requirement.specifier).split(",")), requirement.name


def test_every_package_has_a_lower_and_an_upper_bound() -> None:
    """Or one exact version: what was not tested is not installed."""
    for requirement in script.read_requirements():
        operators = {one.operator for one in requirement.specifier}
        assert operators in ({">=", "<"}, {"=="}), requirement.name


def test_every_installed_package_has_the_license_on_the_page() -> None:
    """One that changed its terms, or is new, is looked at before it is used."""
    listed = rows()
    installed = [script.find_distribution(one.name) for one in script.read_requirements()]
    installed += script.find_indirect(script.read_requirements())
    changed = {
        one.name: (script.find_license(one), listed.get(name, ["not listed"])[-1])
        for one in installed
        if one is not None
        for name in [one.name if one.name in listed else canonicalize_name(one.name)]
        if script.find_license(one) != listed.get(name, [""])[-1]
    }
    assert {} == changed


def test_every_license_allows_any_use() -> None:
    """No file or package that the program needs is for non-commercial use only, or copyleft."""
    refused = {}
    for heading, name in re.findall(r"^\| (package|file|name) \|(.*)\|$", PAGE, flags=re.M):
        columns = [one.strip() for one in f"{heading} |{name}".split("|")]
        start = PAGE.index(f"| {heading} |{name}|")
        for line in PAGE[start:].split("\n\n")[0].splitlines()[2:]:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            terms = set(re.split(r" AND | OR | WITH |[()]", cells[columns.index("license")])) - {""}
            if terms - ALLOWED:
                refused[cells[0]] = terms - ALLOWED
    assert {} == refused


def test_every_file_of_weights_is_listed() -> None:
    """Those of others with license, source and digest, and ours in the tree."""
    listed = rows()
    for one in MODEL_FILES.values():
        license_name, origin, digest = listed[one.file]
        assert (one.license, f"`{one.sha256}`") == (license_name, digest)
        assert all(source.package in origin for source in one.packages)
    folder = ROOT / "models/faceswap_models"
    for path in folder.rglob("*.safetensors"):
        assert f"`{sha256_file(path)}`" == listed[path.relative_to(folder).as_posix()][-1]


def test_code_of_others_is_listed() -> None:
    """Each file that has a copyright of others."""
    for path in (ROOT / "faceswap_cli").rglob("*license*"):
        name = path.name.split("-")[0]
        assert any(name in row.lower() for row in rows()), path
