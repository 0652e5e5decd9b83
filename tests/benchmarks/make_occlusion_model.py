"""Make the network that ships with the package and tells what covers a face.

    python tests/benchmarks/make_occlusion_model.py --folder DIR

Seeds, people, occluders and crops are fixed below and in `pretraining.occluded_faces`. Drawing is
some minutes of processor time; training an hour and a half on one core, in three parts. What is
made is not made again.
The last lines are the scores on people and occluders never learned from, and the digest, which
`docs/guide/occlusion.md` has as well. On one machine the file is the same every time; elsewhere it
differs in the last bits.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.faces.occlusion import VisibleFaceModel, shipped_weights
from faceswap_cli.pretraining.mask_training import (
    MaskSchedule,
    save_masks,
    score_masks,
    train_masks,
)
from faceswap_cli.pretraining.occluded_faces import OccludedSample, OcclusionData, OcclusionSize
from faceswap_models.occlusion import VisibleFaceNet, load_folded

SIZE, SCHEDULE = OcclusionSize(), MaskSchedule()
FINE_TUNING = MaskSchedule(
    images=32_000, small_fraction=0.0, learning_rate=8e-4, overlap_weight=0.8, seed=1
)
"""Afterwards, on rough crops and without normalization, whose statistics of few crops are rough."""
GRIMACES = MaskSchedule(
    images=28_000, small_fraction=0.3, learning_rate=8e-4, overlap_weight=0.8, seed=2
)
"""In the end, on people of a mesh as well, who grimace in hard light, and on bent crops."""
MESH_PROB = 0.4
SCORED = 600
"""Crops that are scored."""


def main() -> None:
    """Draw, train, score, and write the weights into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="keeps what is made")
    folder: Path = parser.parse_args().folder
    terminal = Terminal()
    torch.set_num_threads(1)  # sums in another order give other last bits
    for is_validation in (True, False):
        for done, total in OcclusionData.draw(SIZE, folder, is_validation=is_validation):
            if done == 1:
                terminal.start_task("drawing", total=total, unit="things")
            terminal.update(done)
    first, second = folder / "first.safetensors", folder / "second.safetensors"
    if not first.exists():
        torch.manual_seed(SCHEDULE.seed)
        # This part counts the underside of chins as hidden, the next one corrects that.
        plain = OcclusionData.load(SIZE, folder, has_whole_chins=False)
        train(VisibleFaceNet(), plain, SCHEDULE, first, terminal)
    if not second.exists():
        rough = OcclusionData.load(SIZE, folder, is_rough=True)
        tuned = load_folded(load_file(first))
        train(tuned, rough, FINE_TUNING, second, terminal, skipped=SCHEDULE.images)
    both = OcclusionData.load(SIZE, folder, is_rough=True, is_bent=True, mesh_prob=MESH_PROB)
    skipped = SCHEDULE.images + FINE_TUNING.images
    tuned = load_folded(load_file(second))
    train(tuned, both, GRIMACES, shipped_weights(), terminal, skipped=skipped)
    model = VisibleFaceModel.load()
    for label, mesh_prob in (("people of ellipsoids", 0.0), ("people of a mesh", 1.0)):
        judges = OcclusionData.load(SIZE, folder, is_validation=True, mesh_prob=mesh_prob)
        print(label, score_masks(model, [judges.sample(number) for number in range(SCORED)]))
    print(sha256_file(shipped_weights()), shipped_weights().name)


def train(
    net: VisibleFaceNet,
    data: OcclusionData,
    schedule: MaskSchedule,
    output: Path,
    terminal: Terminal,
    *,
    skipped: int = 0,
) -> None:
    """Train a network on the crops after the first ones, and write its weights."""

    def sample(number: int, side_px: int) -> OccludedSample:
        return data.sample(skipped + number, side_px)

    terminal.start_task("training", total=schedule.images, unit="crops")
    for seen, loss in train_masks(net.train(), sample, schedule):
        terminal.update(seen, {"loss": round(loss, 4)})
    save_masks(net, output)


if __name__ == "__main__":
    main()
