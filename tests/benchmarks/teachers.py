"""Which synthetic people teach better: those of ellipsoids, or those of a mesh.

    python tests/benchmarks/teachers.py --folder DIR [--pairs 16000]

Draws equally many people and moments of both kinds, and pretrains `light` on as many pairs of each:
20 minutes of processor time. The weights stay in the folder; what they are worth to real people
shows in a training that begins with them, equally long for both:

    faceswap train A B --model autoencoder --init-from DIR/mesh.safetensors --max-images 6000
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import study
import torch

from faceswap_cli import heads
from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.types import Image
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.pretraining.loader import PairLoader
from faceswap_cli.pretraining.pairs import (
    RENDER_PX,
    SEED_OFFSET,
    Group,
    PairSettings,
    SwapPairs,
    crop_group,
    draw_group,
)
from faceswap_cli.pretraining.score import score_pairs
from faceswap_cli.stages.pretrain import resolve_pretrain_recipe
from faceswap_cli.training.checkpoint import save_weights
from faceswap_cli.training.dataset import derive_seed
from faceswap_cli.training.schedule import warmup_factor
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import TrainProgress
from faceswap_models.modulated import ModulatedAutoencoder

SETTINGS = PairSettings(groups=40, validation_groups=4, moments=20)
EVERYBODY = "everybody"
SEED = 0

DrawGroup = Callable[[PairSettings, int, FaceDetector], Group]


def draw_mesh_group(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
    """Render a group's people as people of a mesh; otherwise as `pairs.draw_group`."""
    scenes = heads.random_head_scenes(SEED_OFFSET + group, settings.moments)

    def render_person(number: int) -> Iterator[Image]:
        head = heads.HeadModel.from_person(heads.random_head_person(SEED_OFFSET + number))
        return (heads.render_head(head, scene, RENDER_PX).image for scene in scenes)

    return crop_group(settings, map(render_person, settings.person_numbers(group)), detector)


KINDS: dict[str, DrawGroup] = {"ellipsoids": draw_group, "mesh": draw_mesh_group}
"""What is drawn, by the name of the kind of people."""


def draw(kind: str, folder: Path, terminal: Terminal) -> SwapPairs:
    """Return the crops of a kind of people; groups that are in the folder are not drawn again."""
    groups = []
    terminal.start_task(f"drawing {kind}", total=len(SETTINGS.group_numbers), unit="groups")
    with LOCATION_DETECTORS["litert"]() as detector:
        for number in SETTINGS.group_numbers:
            path = folder / kind / f"{number:06d}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, KINDS[kind](SETTINGS, number, detector))
            groups.append(np.load(path, mmap_mode="r"))
            terminal.update(len(groups))
    return SwapPairs(settings=SETTINGS, groups=groups)


def teach(pairs: SwapPairs, path: Path, *, max_images: int, terminal: Terminal) -> str:
    """Pretrain on pairs, write the weights, and return the score on validation pairs as JSON."""
    recipe, hardware = resolve_pretrain_recipe("light", ()), find_hardware("cpu")
    loader = PairLoader(
        pairs,
        model=recipe.model,
        train=recipe.train,
        seed=SEED,
        device=hardware.device,
        identity=EVERYBODY,
    )
    torch.manual_seed(derive_seed(SEED, 0, "first weights"))
    model = ModulatedAutoencoder(
        recipe.model,  # type: ignore[arg-type]  # the autoencoder's, as are those below
        recipe.train,  # type: ignore[arg-type]
        (EVERYBODY,),
        num_people=loader.num_people,
    ).train()
    trainer = Trainer(model, recipe.train, hardware)
    terminal.start_task(f"teaching {path.stem}", total=max_images, unit="pairs")
    for seen in range(0, max_images, loader.images_per_step):
        torch.manual_seed(derive_seed(SEED, seen, "step"))
        rate = trainer.schedule(seen / max_images)
        trainer.step(
            loader.batch(seen),
            TrainProgress(images_seen=seen, max_images=max_images),
            lr_scale=rate * warmup_factor(seen, recipe.train.warmup_images),
            images=loader.images_per_step,
        )
        terminal.update(seen)
    save_weights(
        path,
        trainer.export_weights(),
        recipe=recipe,
        identities=(EVERYBODY,),
        images_seen=max_images,
    )
    with trainer.ema_weights() as averaged:
        assert isinstance(averaged, ModulatedAutoencoder)
        return json.dumps(asdict(score_pairs(averaged, loader)))


def main() -> None:
    """Draw, teach, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=16_000)
    options = parser.parse_args()
    study.limit_threads(1)
    for kind in KINDS:
        terminal = Terminal()
        pairs = draw(kind, options.folder, terminal)
        path = options.folder / f"{kind}.safetensors"
        print(kind, teach(pairs, path, max_images=options.pairs, terminal=terminal))


if __name__ == "__main__":
    main()
