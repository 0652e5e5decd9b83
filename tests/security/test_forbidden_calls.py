"""What could run code from a file is nowhere in the tree, but for exceptions that have a reason."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("faceswap_cli", "models", "docs")
SOURCES = sorted(path for folder in (*PRODUCT, "tests") for path in (ROOT / folder).rglob("*.py"))

MODULES = frozenset(
    {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "_pickle", "yaml"}
    | {"telnetlib", "xmlrpc", "ftplib"}
)
"""Modules that load objects, or open connections without encryption."""
BUILTINS = frozenset({"eval", "exec", "compile", "__import__"})
FUNCTIONS: Mapping[str, str] = {
    "os.system": "subprocess with a list of words",
    "os.popen": "subprocess with a list of words",
    "subprocess.getoutput": "subprocess.run with a list of words",
    "subprocess.getstatusoutput": "subprocess.run with a list of words",
    "tempfile.mktemp": "tempfile.mkstemp",
    "torch.load": "training.checkpoint.read_safetensors",
    "torch.save": "training.checkpoint.write_safetensors",
    "torch.jit.load": "training.checkpoint.load_weights",
    "torch.hub.load": "core.model_files.find_model_file",
    "urllib.request.urlopen": "core.model_files.urlopen",
    "urllib.request.urlretrieve": "core.model_files.find_model_file",
    "ssl._create_unverified_context": "the default context",
    "shutil.unpack_archive": "no archives",
    "cv2.imread": "core.image_io.read_image",
    "cv2.imwrite": "core.image_io.write_png",
    "cv2.VideoCapture": "video.reader.VideoReader",
}
"""Function -> what to use instead."""
METHODS = frozenset({"extractall"})
"""Methods of archives that write wherever the archive says."""

EXCEPTIONS: Mapping[str, frozenset[str]] = {
    # Published `.pth` files: tensors only, see `test_the_one_reader_of_pth_files_reads_tensors`.
    "faceswap_cli/training/pretrained.py": frozenset({"torch.load"}),
    # These write what the program must read or refuse.
    "tests/test_pretrained.py": frozenset({"torch.load", "torch.save"}),
    "tests/exchange/test_import.py": frozenset({"pickle", "os.system"}),
    # These run the examples of the documents.
    "tests/test_api.py": frozenset({"exec"}),
    "tests/test_synthetic.py": frozenset({"exec"}),
}
"""File -> what it may use."""


def find_forbidden(source: str) -> Iterator[str]:
    """Yield what a source text uses and should not, by its full name."""
    tree = ast.parse(source)
    names = _imported_names(tree)
    imported = set(names.values())
    yield from sorted(imported & FUNCTIONS.keys())
    yield from sorted({name.split(".")[0] for name in imported} & MODULES)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = _full_name(node, names)
            if name in FUNCTIONS or name in BUILTINS:
                yield name
            elif isinstance(node, ast.Attribute) and node.attr in METHODS:
                yield node.attr
        elif isinstance(node, ast.Call):
            yield from _find_in_call(node, names)


def _find_in_call(node: ast.Call, names: Mapping[str, str]) -> Iterator[str]:
    """Yield the arguments of a call that make it dangerous."""
    given = {one.arg: one.value for one in node.keywords}
    for argument, harmless in (("allow_pickle", False), ("shell", False), ("verify", True)):
        value = given.get(argument)
        if value is not None and not (isinstance(value, ast.Constant) and value.value is harmless):
            yield argument
    called = _full_name(node.func, names)
    if called == "numpy.load" and "allow_pickle" not in given:
        yield "numpy.load"
    first = node.args[0] if node.args else None
    if called.startswith("subprocess.") and isinstance(first, ast.JoinedStr | ast.Constant):
        yield "subprocess with one string"


def _imported_names(tree: ast.Module) -> dict[str, str]:
    """Return each name that imports bind, and the full name of what it is."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                bound = one.asname or one.name.split(".")[0]
                names[bound] = one.name if one.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                names[one.asname or one.name] = f"{node.module}.{one.name}"
    return names


def _full_name(node: ast.expr, names: Mapping[str, str]) -> str:
    """Return the dotted name of an expression, by what its first part was imported as."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_full_name(node.value, names)}.{node.attr}"
    return ""


def test_nothing_forbidden_is_used() -> None:
    """In the program, in its documents' generator and in its tests."""
    assert len(SOURCES) > 250
    found = {
        f"{name}: {one}"
        for path in SOURCES
        for name in [path.relative_to(ROOT).as_posix()]
        for one in find_forbidden(path.read_text(encoding="utf-8"))
        # Tests and benchmarks load arrays that they have written.
        if one not in EXCEPTIONS.get(name, ())
        and not (name[:6] == "tests/" and one == "numpy.load")
    }
    assert set() == found


def test_every_exception_is_needed() -> None:
    """An exception that nothing uses would hide the next use."""
    for name, allowed in EXCEPTIONS.items():
        assert allowed <= set(find_forbidden((ROOT / name).read_text(encoding="utf-8"))), name


def test_the_one_reader_of_pth_files_reads_tensors() -> None:
    """`torch.load` is called once, with `weights_only=True` as a constant."""
    tree = ast.parse((ROOT / "faceswap_cli/training/pretrained.py").read_text(encoding="utf-8"))
    names = _imported_names(tree)
    calls = [one for one in ast.walk(tree) if isinstance(one, ast.Call)]
    [load] = [one for one in calls if _full_name(one.func, names) == "torch.load"]
    given = {one.arg: ast.literal_eval(one.value) for one in load.keywords}
    assert given["weights_only"] is True


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "import yaml\nyaml.safe_load('x')",
        "import torch\ntorch.load('x', weights_only=True)",
        "import torch as t\nt.load('x')",
        "from torch import save",
        "import torch\nkeep = torch.save",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "import numpy as np\nnp.load('x')",
        "eval('1')",
        "run = exec",
        "import os\nos.system('x')",
        "from os import popen\npopen('x')",
        "import subprocess\nsubprocess.run(words, shell=True)",
        "import subprocess\nsubprocess.run(f'ls {name}')",
        "import tarfile\ntarfile.open('x').extractall()",
        "import requests\nrequests.get(url, verify=False)",
        "from urllib.request import urlopen\nurlopen('x')",
        "import cv2\ncv2.imread('x')",
    ],
)
def test_what_is_planted_is_found(planted: str) -> None:
    """The check itself can fail."""
    assert list(find_forbidden(planted))


@pytest.mark.parametrize(
    "harmless",
    [
        "model.eval()",
        "import re\nre.compile('x')",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "import subprocess\nsubprocess.run(['ls', name])",
        "from safetensors.torch import save",
    ],
)
def test_what_only_looks_similar_is_not_found(harmless: str) -> None:
    """Methods and functions of the same names are other things."""
    assert [] == list(find_forbidden(harmless))
