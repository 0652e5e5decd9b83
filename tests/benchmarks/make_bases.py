"""Make the bases that ship with the package: the weights that new runs begin with.

    python tests/benchmarks/make_bases.py --folder DIR [--only PRESET] [--device DEVICE]

Seeds, people and images are fixed below. Rendering the people of `light` takes 75 minutes of
processor time, which the cores share, and training 48 minutes on one, and 5 for its detail network
(`base_detail.py`). It may be interrupted and
repeated. The last lines are the digests, which `docs/guide/base.md` has as well. On one machine the
files are the same every time; elsewhere they differ in the last bits.
"""

import argparse
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.pretraining.recipe import BACKEND, resolve_pretrain_recipe
from faceswap_cli.stages.pretrain import PretrainJob, StopCriterion, pretrain
from faceswap_models import bases

SEED = 0


@dataclass(frozen=True, kw_only=True)
class BaseSize:
    """How much a base has seen."""

    groups: int
    """Groups of four people."""
    images: int
    """Pairs."""


BASES = {"light": BaseSize(groups=260, images=220_000)}
"""By preset."""


def main() -> None:
    """Pretrain each preset, and copy its weights into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="a workspace for the crops")
    parser.add_argument("--only", choices=BASES, help="make this one only")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    for preset in [given.only] if given.only else BASES:
        print(sha256_file(path := make_base(preset, given.folder, given.device)), path.name)


def make_base(preset: str, folder: Path, device: str) -> Path:
    """Pretrain a preset on synthetic people; return the file in the package."""
    space, size = Workspace.open(folder), BASES[preset]
    run = space.run_folder(f"base-{preset}")
    job = PretrainJob(
        recipe=resolve_pretrain_recipe(preset, ()),
        run=run,
        pairs_folder=space.pairs,
        groups=size.groups,
        stop_criterion=StopCriterion(max_images=size.images),
        device=device,
        seed=SEED,
        processes=os.cpu_count() or 1,
    )
    pretrain(job, report=Terminal())
    [bases_folder] = bases.__path__
    path = Path(bases_folder) / f"{BACKEND}-{preset}.safetensors"
    shutil.copyfile(run.weights, path)
    # Here, since tests that read `BASES` do not import the studies, which are no package.
    from base_detail import add_detail

    add_detail(path, folder / "detail", preset=preset, seed=SEED)
    return path


if __name__ == "__main__":
    main()
