"""Write what a version leaves on the disk, small: sets, a run, weights of every backend.

`format-1` was written at commit 7066f9b, before settings, log keys and file headers were renamed:

    python tests/compatibility/make.py tests/compatibility/format-1

Only commands and options that every version knows are used, so a later version can write its own.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BACKENDS = ("autoencoder", "cyclegan", "progressive")
NARROW = {
    "progressive": (
        *("--set", "model.generator_widths=8,8", "--set", "model.discriminator_widths=8,8"),
        *("--set", "model.history=2"),
    )
}
"""Its whole run is kept, so its networks are narrower than the preset's."""
SCRIPT = """
import sys
import numpy as np
from faceswap_cli.{package} import CAST, {animate}
from faceswap_cli.{clips} import {draw_clip}
from faceswap_cli.{progress} import Silent
from pathlib import Path
for turn, name in enumerate(("ada", "ed")):
    {draw_clip}(
        Path(name + ".mp4"), CAST[name], {animate}(1 + turn, seconds=1.0), side_px=160,
        {report}=Silent(),
    )
"""
FORMAT_1 = {
    "package": "actors",
    "animate": "perform",
    "clips": "truth.clips",
    "draw_clip": "draw_clip",
    "progress": "report",
    "report": "report",
}
"""The names that the version of `format-1` had for what draws clips."""


def main(target: Path) -> None:
    """Draw two clips, extract, train each backend for a moment, and keep what is small."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run(work, sys.executable, "-c", SCRIPT.format(**FORMAT_1))
        for name in ("ada", "ed"):
            faceswap(work, "extract", f"{name}.mp4", "--size", "48", "--every", "3")
        for backend in BACKENDS:
            options = ("--preset", "debug", "--images", "96", "--device", "cpu")
            changes = ("--set", "train.batch_size=2", *NARROW.get(backend, ()))
            faceswap(work, "train", "--model", backend, *options, *changes, "ada", "ed")
        keep(work / "workspace", target)


def keep(workspace: Path, target: Path) -> None:
    """Copy what a later version must read: not caches, sheets or pages."""
    for path in sorted(workspace.rglob("*")):
        inside = path.relative_to(workspace)
        is_run = inside.parts[0] == "runs" and inside.parts[1:2] != ("progressive-ada-ed",)
        wanted = ("weights.safetensors",) if is_run else ()
        wanted = wanted or ("*.toml", "*.jsonl", "*-0.png", "resume.safetensors", "weights.*")
        is_left = {"previews", "snapshots", "cache", "stages"} & set(inside.parts)
        if path.is_file() and not is_left and any(path.match(one) for one in wanted):
            (target / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / inside)


def faceswap(work: Path, *words: str) -> None:
    """Run the program."""
    run(work, sys.executable, "-m", "faceswap_cli", *words, "--quiet")


def run(work: Path, *words: str) -> None:
    """Run a command in a folder."""
    subprocess.run(words, cwd=work, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
