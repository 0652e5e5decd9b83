"""Make docs/pictures/behind.webp: what decoders make of a face behind something.

Run by hand, some minutes on one core, after the demo whose network it uses:

    faceswap demo --max-images 20000
    cp -r faceswap-demo/workspace/runs/demo faceswap-demo/workspace/runs/behind
    faceswap train ken max --model autoencoder --name behind --set train.occlusion_prob=0.5 \
        --max-images 27000 --workspace faceswap-demo/workspace
    python tests/benchmarks/occlusion_picture.py --demo faceswap-demo

Rows are the crops, and what the two networks make of them: the demo's, and the one that went on
with drawn occluders in front of its inputs.
"""

import argparse
from pathlib import Path

import numpy as np
from benchmarks.troubleshooting import behind_things, save

from faceswap_cli import Workspace
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.heads import HeadModel, HeadScene, head_cast, render_head
from faceswap_cli.stages.demo import DRIVING, TARGET
from faceswap_cli.synthetic.occluders import OCCLUDERS, cover_crop

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "behind.webp"
TILE_PX = 128
RUNS = {"demo": "occlusion_prob 0", "behind": "occlusion_prob 0.5"}
KINDS = ("hand", "cup", "paper", "face covering")
"""Drawn before the same face."""


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    space = Workspace(root=parser.parse_args().demo / "workspace")
    crops: list[Image] = []
    rows = [crops]
    for run in RUNS:
        model = FaceModel.load(space.run_folder(run).weights, device="cpu")
        if not crops:
            crops += cut_faces(model)
        rows.append([one.image for one in model.infer(crops, TARGET)])
    labels = ["input", *RUNS.values()]
    print(save(image_io.make_grid(rows, side=TILE_PX, labels=labels), PICTURE))


def cut_faces(model: FaceModel) -> list[Image]:
    """Return crops of the driving person behind hands and things, as a network gets them."""
    head = HeadModel.from_person(head_cast()[DRIVING])
    frames = [render_head(head, HeadScene(), 384).image, *behind_things()[:2]]
    crops = []
    with LOCATION_DETECTORS["litert"]() as detector:
        for frame in frames:
            [face, *_] = detector.detect(frame)
            square = align_face(face.landmarks).subsquare(model.coverage, model.center)
            crops.append(square.crop(frame, model.size_px))
    size = model.size_px
    whole = np.ones((size, size), np.float32)
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng(number)
        layer = OCCLUDERS[kind][0](rng, size)
        crops.append(cover_crop(crops[0], whole, layer, rng).image)
    return crops


if __name__ == "__main__":
    main()
