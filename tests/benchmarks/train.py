"""Images per second of our training step against the classic one, measured alternately in one run.

    python tests/benchmarks/train.py [--device cuda] [--batch 16] [--side 64] [--rounds 5]

Both train the published layout (the `original` preset) on the same crops with the same batch size.
The classic loop is written here from its description: numpy and OpenCV warp each image on the main
thread, float32, one Adam for each identity's autoencoder with the encoder in both, two passes
through the encoder, losses read every step. Each variant runs in its own process, because memory
allocation is a setting of the process, and they alternate: A B C, C B A, ...
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from faceswap_cli.core import config
from faceswap_cli.core.hardware import find_hardware, keep_freed_memory
from faceswap_cli.training.dataset import IdentityDataset, Pixels
from faceswap_cli.training.loader import FaceLoader, make_loader
from faceswap_cli.training.trainer import Trainer
from faceswap_models import registry
from faceswap_models.base import FaceBatch, SwapModel, TrainProgress
from faceswap_models.layers import WinogradConv2d

IDENTITIES = ("a", "b")
CROPS = 256
CROP_PX = 256
"""Side of the classic loop's crops; ours caches them at the side it needs."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """Device and sizes of a measurement."""

    device: str
    batch_size: int
    size_px: int

    @property
    def recipe(self) -> config.Recipe:
        """The published layout with this batch size and input size."""
        changes = [f"train.batch_size={self.batch_size}", f"model.size_px={self.size_px}"]
        return config.resolve("autoencoder", "original", changes)


def main() -> None:
    """Measure the variants, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each turn")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = parser.parse_args()
    case = BenchmarkCase(
        device=arguments.device, batch_size=arguments.batch, size_px=arguments.side
    )
    rates = run_interleaved(
        case, arguments.only, rounds=arguments.rounds, seconds=arguments.seconds
    )
    print_table(case, rates)


def run_interleaved(
    case: BenchmarkCase, names: Sequence[str], *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Let the variants train alternately; return the images per second of each turn."""
    spawn = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    for name in names:
        parent, child = spawn.Pipe()
        spawn.Process(target=worker, args=(name, case, child), daemon=True).start()
        parent.recv()  # warmed up
        connections[name] = parent
    rates: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            connections[name].send(seconds)
            rates[name].append(connections[name].recv())
    for connection in connections.values():
        connection.send(None)
    return rates


def worker(name: str, case: BenchmarkCase, connection: Connection) -> None:
    """Train for the received numbers of seconds, and send images per second each time."""
    step = VARIANTS[name](case)
    images = len(IDENTITIES) * case.batch_size
    for position in range(3):
        step(position * images)
    synchronize(case.device)
    connection.send("ready")
    position = 3 * images
    while (seconds := connection.recv()) is not None:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            step(position)
            position, count = position + images, count + images
            if count % (16 * images) == 0:
                synchronize(case.device)  # a GPU's queue must not run ahead of the clock
        synchronize(case.device)
        connection.send(count / (time.perf_counter() - began))


def synchronize(device: str) -> None:
    """Wait until the device has finished."""
    if device == "cuda":
        torch.cuda.synchronize()


# --- variants -----------------------------------------------------------------------------------

Step = Callable[[int], Any]


def classic(case: BenchmarkCase) -> Step:
    """Return a step of the first programs' training."""
    device = torch.device(case.device)
    WinogradConv2d.MIN_CHANNELS = 1 << 30  # the library's own convolutions; a process of its own
    model = build_model(case).to(device)
    pixels = [crops(seed, CROP_PX)[..., :3] for seed in range(len(IDENTITIES))]
    optimizers = [
        torch.optim.Adam(
            [*model.encoder.parameters(), *decoder.parameters()], lr=5e-5, betas=(0.5, 0.999)
        )
        for decoder in model.decoders
    ]
    rng = np.random.default_rng(0)

    def step(position: int) -> None:
        del position
        for faces, decoder, optimizer in zip(pixels, model.decoders, optimizers, strict=True):
            pairs = [
                classic_pair(faces[index], rng, case.size_px)
                for index in rng.integers(0, len(faces), case.batch_size)
            ]
            warped, target = (
                torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
                for part in zip(*pairs, strict=True)
            )
            optimizer.zero_grad()
            loss = functional.l1_loss(decoder(model.encoder(warped).features).image, target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()

    return step


def classic_pair(
    crop: np.ndarray[Any, Any], rng: np.random.Generator, size_px: int
) -> tuple[Pixels, Pixels]:
    """Rotate, scale, shift, flip and warp a 256 px crop, each by its own pass over the image."""
    side = crop.shape[0]
    matrix = cv2.getRotationMatrix2D(
        (side / 2, side / 2), rng.uniform(-10, 10), 1 + rng.uniform(-0.05, 0.05)
    )
    matrix[:, 2] += rng.uniform(-0.05, 0.05, 2) * side
    image = cv2.warpAffine(crop, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    nodes = np.linspace(side / 2 - 80, side / 2 + 80, 5)
    map_x = np.broadcast_to(nodes, (5, 5)) + rng.normal(0, 5, (5, 5))
    map_y = np.broadcast_to(nodes[:, None], (5, 5)) + rng.normal(0, 5, (5, 5))
    large = 5 * size_px // 4
    margin = (large - size_px) // 2
    inner = slice(margin, margin + size_px)
    maps = [cv2.resize(m, (large, large))[inner, inner].astype(np.float32) for m in (map_x, map_y)]
    warped = cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR)
    center = slice(side // 2 - 64, side // 2 + 64)
    target = cv2.resize(image[center, center], (size_px, size_px))
    return np.asarray(warped), np.asarray(target)


def ours(case: BenchmarkCase) -> Step:
    """Return a step of our training."""
    keep_freed_memory()
    trainer, loader = make_trainer(case)

    def step(position: int) -> None:
        train_step(trainer, loader.batch(position), position)

    return step


def ours_float32(case: BenchmarkCase) -> Step:
    """Return a step of our training in the classic loop's precision."""
    keep_freed_memory()
    trainer, loader = make_trainer(case)
    trainer.hardware = replace(trainer.hardware, autocast_dtype=None)

    def step(position: int) -> None:
        train_step(trainer, loader.batch(position), position)

    return step


def ours_direct(case: BenchmarkCase) -> Step:
    """Return a step of our training with the library's own convolutions."""
    WinogradConv2d.MIN_CHANNELS = 1 << 30
    return ours(case)


def ours_one_batch(case: BenchmarkCase) -> Step:
    """Return a step on a fixed batch: the difference to `ours` is the cost of data loading."""
    keep_freed_memory()
    trainer, loader = make_trainer(case)
    batch = loader.batch(0)

    def step(position: int) -> None:
        train_step(trainer, batch, position)

    return step


VARIANTS: dict[str, Callable[[BenchmarkCase], Step]] = {
    "classic": classic,
    "ours": ours,
    "ours, direct": ours_direct,
    "ours, float32": ours_float32,
    "ours, one batch": ours_one_batch,
}


def make_trainer(case: BenchmarkCase) -> tuple[Trainer, FaceLoader]:
    """Return our trainer and its loader."""
    hardware = find_hardware(case.device)
    recipe = case.recipe
    model = build_model(case).to(hardware.device, memory_format=hardware.memory_format)  # type: ignore[call-overload]
    side = round(1.5 * recipe.model.size_px / recipe.model.coverage)
    indices = np.arange(CROPS, dtype=np.int64)
    datasets = [
        IdentityDataset(
            name=name, pixels=crops(seed, side), train_indices=indices, val_indices=indices[:8]
        )
        for seed, name in enumerate(IDENTITIES)
    ]
    loader = make_loader(
        datasets, model=recipe.model, train=recipe.train, seed=0, device=hardware.device
    )
    return Trainer(model, recipe.train, hardware), loader


def train_step(trainer: Trainer, batch: FaceBatch, position: int) -> dict[str, Tensor]:
    """Take one step of our training."""
    progress = TrainProgress(images_seen=position, max_images=None)
    images = batch.target.shape[0] * batch.target.shape[1]
    return trainer.step(batch, progress, lr_scale=1.0, images=images)


def build_model(case: BenchmarkCase) -> Any:  # noqa: ANN401 - the classic loop uses the encoder and decoders
    """Return freshly initialized networks."""
    recipe = case.recipe
    torch.manual_seed(0)
    return registry.load(recipe.backend)(recipe.model, recipe.train, IDENTITIES)


def crops(seed: int, side_px: int) -> Pixels:
    """Return smooth random images with a mask: speed does not depend on their content."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (CROPS, 16, 16, 4), dtype=np.uint8)
    return np.stack([cv2.resize(image, (side_px, side_px)) for image in small])


# --- the table ----------------------------------------------------------------------------------


def print_table(case: BenchmarkCase, rates: dict[str, list[float]]) -> None:
    """Print images per second, their ratio to the first variant's, and FLOP/s."""
    base = next(iter(rates))
    flops = step_flops(case) / (len(IDENTITIES) * case.batch_size)
    peaks = {kind: matmul_peak(case.device, kind) for kind in (torch.float32, torch.bfloat16)}
    print(f"{case}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        f"{flops / 1e9:.2f} GFLOP per image; measured matmul peak: "
        + ", ".join(
            f"{str(kind).removeprefix('torch.')} {peak / 1e12:.2f} TFLOP/s"
            for kind, peak in peaks.items()
        )
    )
    print(f"{'variant':<18}{'images/s':>10}{'spread':>9}{'ratio':>8}{'TFLOP/s':>10}")
    for name, values in rates.items():
        middle = median(values)
        ratio = median(a / b for a, b in zip(values, rates[base], strict=True))
        spread = (max(values) - min(values)) / middle
        print(f"{name:<18}{middle:>10.1f}{spread:>9.0%}{ratio:>8.2f}{middle * flops / 1e12:>10.3f}")
    if {"ours", "ours, one batch"} <= rates.keys():
        pairs = zip(rates["ours"], rates["ours, one batch"], strict=True)
        print(f"cost of data loading: {1 - median(a / b for a, b in pairs):.1%} of the step")


def step_flops(case: BenchmarkCase) -> float:
    """Count the floating point operations of one step, forward and backward."""
    model: SwapModel = build_model(case)
    shape = (len(IDENTITIES), 1, 3, case.size_px, case.size_px)
    batch = FaceBatch(
        warped=torch.zeros(shape), target=torch.zeros(shape), mask=torch.ones(shape)[:, :, :1]
    )
    with FlopCounterMode(display=False) as counter:
        model.train_step(batch, backward_only, TrainProgress(images_seen=0, max_images=None))
    return float(counter.get_total_flops()) * case.batch_size


def backward_only(group: str, loss: Tensor) -> None:
    """Compute gradients in place of the trainer's update."""
    loss.backward()  # type: ignore[no-untyped-call]


def matmul_peak(device: str, kind: torch.dtype) -> float:
    """Measure the speed of a large product of random matrices, FLOP/s."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    times = []
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        synchronize(device)
        times.append(time.perf_counter() - began)
    return float(2 * side**3 / min(times))


if __name__ == "__main__":
    main()
