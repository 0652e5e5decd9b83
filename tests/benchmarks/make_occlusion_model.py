"""Make the network that ships with the package and tells what covers a face.

    python tests/benchmarks/make_occlusion_model.py --folder DIR

Seeds, people, occluders and crops are fixed below and in `pretraining.occluded_faces`. Drawing is
some minutes of processor time; training an hour on one core, in two parts. What is made is not made
again.
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
    first = folder / "first.safetensors"
    if not first.exists():
        torch.manual_seed(SCHEDULE.seed)
        train(VisibleFaceNet(), folder, SCHEDULE, first, terminal)
    tuned = load_folded(load_file(first))
    train(tuned, folder, FINE_TUNING, shipped_weights(), terminal, skipped=SCHEDULE.images)
    validation = OcclusionData.load(SIZE, folder, is_validation=True)
    samples = [validation.sample(number) for number in range(SCORED)]
    print(score_masks(VisibleFaceModel.load(), samples))
    print(sha256_file(shipped_weights()), shipped_weights().name)


def train(
    net: VisibleFaceNet,
    folder: Path,
    schedule: MaskSchedule,
    output: Path,
    terminal: Terminal,
    *,
    skipped: int = 0,
) -> None:
    """Train a network on the crops after the first ones, and write its weights."""
    # The first part counts the underside of chins as hidden, the second one corrects that.
    is_second = skipped > 0
    data = OcclusionData.load(SIZE, folder, is_rough=is_second, has_whole_chins=is_second)

    def sample(number: int, side_px: int) -> OccludedSample:
        return data.sample(skipped + number, side_px)

    terminal.start_task("training", total=schedule.images, unit="crops")
    for seen, loss in train_masks(net.train(), sample, schedule):
        terminal.update(seen, {"loss": round(loss, 4)})
    save_masks(net, output)


if __name__ == "__main__":
    main()
