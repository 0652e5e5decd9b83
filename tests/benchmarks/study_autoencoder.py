"""The autoencoders against each other and against the true swap, at equal time or equal steps.

    python tests/benchmarks/study_autoencoder.py [--folder DIR] [--vgg19 FILE] [--only TEXT]

About six hours of processor time in all, of which the presets take three. Parts can
run side by side (`--only`), each on the clock of its own process. Finished rows are not run again,
so the command may be interrupted and repeated. It writes tables and grids into the folder;
`docs/research/autoencoder.md` is written by hand around them.
"""

import argparse
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import study
import torch
from safetensors.torch import load_model
from torch import Tensor, nn

from faceswap_cli import synthetic
from faceswap_cli.core import config, image_io
from faceswap_cli.training.checkpoint import load_weights
from faceswap_cli.training.dataset import POOLED_IDENTITY
from faceswap_cli.training.pretrained import freeze_parts, read_tensors
from faceswap_models import registry, vgg
from faceswap_models.backends.autoencoder import Autoencoder, Decoder
from faceswap_models.base import SwapModel
from faceswap_models.layers import PixelShuffle, ResidualBlock, WinogradConv2d, kaiming_init

LONG, MEDIUM, LAPTOP, SHORT = 45.0, 8.0, 3.0, 1.0
"""Processor minutes of each preset, long enough for the wide ones; of VGG19 without its weights; of
what a laptop might train; and of comparisons within one network."""
SCREENING_STEPS, FINAL_STEPS = 1_500, 4_000
"""Steps of the rows that choose the values of `hd`, and of those that confirm them."""

# A CPU takes few steps in minutes, so every row has small batches: see the page.
BATCH_2 = "train.batch_size=2"
BATCH_4 = "train.batch_size=4"
STRUCTURE, EYES_FIRST = "train.dssim_weight=1", "train.eyes_mouth_weight=2"
DEPTH_2 = "model.learned_upsamples=2"
SIDE_64, SIDE_96, SIDE_112 = (f"model.size_px={side}" for side in (64, 96, 112))
SIDE_128 = ("model.size_px=128", "model.bottleneck_px=8")
HD_64 = (SIDE_64, BATCH_4)
FIRST_HD = (
    "model.encoder_channels=64,128,256,512",
    "model.encoder_kernel_size=5",
    "model.latent_dim=512",
    "model.shared_channels=512",
    "model.decoder_channels=256,128,64,32",
    "model.residual_blocks=1",
    "train.learning_rate=1e-4",
    "train.lr_schedule=constant",
    "train.input_color_jitter=0.3",
)
"""What the `hd` preset had before the part `hd` of this study, where it differs now."""
SHORT_RUN = (
    "train.lr_schedule=cosine",
    "train.warmup_images=500",
    "train.ema_halflife_images=4000",
)
"""Settings of `light` for short trainings."""
NARROW = (
    *HD_64,
    *SHORT_RUN,
    "model.encoder_channels=32,64,128,128",
    "model.encoder_kernel_size=3",
    "model.latent_dim=128",
    "model.shared_channels=128",
    "model.decoder_channels=64,32,16",
    "model.residual_blocks=1",
    "model.discriminator_base_channels=16",
    "train.learning_rate=2e-3",
)
"""The first `hd` preset with the channels and the learning rate of `light`."""
KERAS_FEATURE_SCALE = 1000.0
"""Divisor of Keras' features."""
UNFROZEN = "train.unfreeze_start_images=0"
UNFREEZE_IMAGES = 5_000
"""When a long row unfreezes VGG19: after a tenth of its time."""
HIGH_LEARNING_RATE = "train.learning_rate=1e-3"
DOUBLE_WIDTH = (
    "model.encoder_channels=64,128,256,256",
    "model.shared_channels=256",
    "model.decoder_channels=128,64,32",
)
"""Twice the channels of `light`."""
FACE_ONLY = ("train.background_weight=0", EYES_FIRST)
"""The loss of `hd`: nothing outside the face, eyes and mouth three times."""
JITTER, RESIDUAL = "train.input_color_jitter=0.6", "model.residual_blocks=1"
HD_CHANGES: Mapping[str, Sequence[str]] = {
    "twice the channels": DOUBLE_WIDTH,
    "twice the channels, rate 1e-3": (*DOUBLE_WIDTH, "train.learning_rate=1e-3"),
    "kernel 5 in the encoder": ("model.encoder_kernel_size=5",),
    "a residual block after each upsampling": (RESIDUAL,),
    "latent of 64": ("model.latent_dim=64",),
    "latent of 256": ("model.latent_dim=256",),
    "warp 0.3": ("train.warp_strength=0.3",),
    "warp 1": ("train.warp_strength=1",),
    "weight on eyes and mouth": (EYES_FIRST,),
    "no loss outside the face": ("train.background_weight=0",),
    "both": FACE_ONLY,
    "both, structural loss 3": (*FACE_ONLY, "train.dssim_weight=3"),
    "both, input jitter 0.6": (*FACE_ONLY, JITTER),
    "both, input jitter 1": (*FACE_ONLY, "train.input_color_jitter=1"),
    "both, input jitter 0.6, latent of 64": (*FACE_ONLY, JITTER, "model.latent_dim=64"),
    "both, input jitter 0.6, constant rate": (*FACE_ONLY, JITTER, "train.lr_schedule=constant"),
    "both, input jitter 0.6, adversarial at the end": (
        *FACE_ONLY,
        JITTER,
        "model.discriminator_base_channels=16",
        "train.adversarial_weight=0.02",
        "train.adversarial_start_images=9000",
    ),
    "both, input jitter 0.6, latent of 256": (*FACE_ONLY, JITTER, "model.latent_dim=256"),
}
"""Changes to `light` at 64 px that were tried for `hd`, by name."""
NO_MASK = ("model.predict_mask=false", "train.background_weight=1")
CLASSIC_WARP = (
    "train.warp_strength=1",
    "train.rotate_deg=10",
    "train.scale_jitter=0.05",
    "train.translate_jitter=0.05",
)
ADVERSARIAL = ("train.adversarial_weight=0.05", "train.adversarial_start_images=3000")


PRETRAIN_IDENTITIES = ("cy", "di", "ed")
"""Identities that an encoder is pretrained on before ada and bo."""
PRETRAIN_MINUTES = 3.0
"""Processor minutes of the pretraining."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows that are compared with each other: one table and one grid."""

    name: str
    rows: Sequence[study.Row]
    is_shown: Callable[[study.Row], bool] = lambda row: row.seed == 0
    curve_minutes: Sequence[float] = ()
    """Columns of the learning-curve table, minutes; no table without any."""
    curve_steps: Sequence[float] = ()
    """The same in steps."""


def make_row(
    name: str,
    preset: str,
    *changes: str,
    minutes: float = SHORT,
    steps: int = 0,
    seed: int = 0,
    faces: int = 0,
    vgg19_file: Path | None = None,
    pretrained_in: Path | None = None,
    base: Path | None = None,
    rebuild: tuple[str, Callable[[SwapModel], None]] | None = None,
) -> study.Row:
    """Return a row: a preset with some settings changed.

    Args:
        name: Label in the tables.
        preset: Preset of the autoencoder.
        changes: Settings, `section.key=value`.
        minutes: Processor minutes, unless `steps` is given.
        steps: Number of steps.
        seed: Seed of the run.
        faces: Number of training crops of each identity; 0 is all.
        vgg19_file: Weights for the first three blocks of a VGG19 encoder.
        pretrained_in: Folder of the weights pretrained on other identities, to start from.
        base: Weights of `faceswap pretrain` to start from.
        rebuild: Description of a change to the fresh networks, and the function that makes it.
    """
    plain = study.Row(
        name=name,
        recipe=config.resolve("autoencoder", preset, changes),
        cpu_minutes=0.0 if steps else minutes,
        steps=steps,
        seed=seed,
        faces=faces,
    )
    if vgg19_file:
        label = "VGG19 up to conv3_4 from ImageNet, its features scaled"
        return replace(
            plain, prepare=partial(load_partial_vgg19, path=vgg19_file), prepare_label=label
        )
    if pretrained_in:
        label = f"pretrained on {' '.join(PRETRAIN_IDENTITIES)}, {PRETRAIN_MINUTES:g} minutes"
        return replace(
            plain,
            prepare=partial(load_pretrained_decoder, folder=pretrained_in),
            prepare_label=label,
        )
    if base:
        label = f"from the base {hashlib.sha256(base.read_bytes()).hexdigest()[:12]}"
        return replace(plain, prepare=partial(load_base, path=base), prepare_label=label)
    if rebuild:
        return replace(plain, prepare_label=rebuild[0], prepare=rebuild[1])
    return plain


def make_parts(vgg19_file: Path | None, base: Path | None, folder: Path) -> list[Part]:
    """Return the whole study, most important rows first."""
    unfreeze_late = f"train.unfreeze_start_images={UNFREEZE_IMAGES}"
    best = "vgg19, ImageNet up to conv3_4"
    presets = [
        make_row("original", "original", BATCH_2, minutes=LONG),
        *(
            [make_row(best, "vgg19", BATCH_2, unfreeze_late, minutes=LONG, vgg19_file=vgg19_file)]
            if vgg19_file
            else []
        ),
        make_row(
            "vgg19, random", "vgg19", BATCH_2, unfreeze_late, minutes=MEDIUM if vgg19_file else LONG
        ),
        make_row("first hd, 64 px", "hd", *FIRST_HD, *HD_64, *SHORT_RUN, minutes=LONG),
        make_row("light", "light", minutes=LONG),
    ]
    encoders = [
        make_row("vgg19, random, frozen", "vgg19", BATCH_4),
        make_row("vgg19, random, unfrozen", "vgg19", BATCH_4, UNFROZEN),
    ]
    if vgg19_file:
        encoders += [
            make_row(f"{best}, frozen", "vgg19", BATCH_4, vgg19_file=vgg19_file),
            make_row(f"{best}, unfrozen", "vgg19", BATCH_4, UNFROZEN, vgg19_file=vgg19_file),
        ]
    ablations = [
        make_row("first hd, 64 px, narrow", "hd", *NARROW),
        make_row("first hd, 64 px, narrow", "hd", *NARROW, seed=1),
        make_row("no mask at all", "hd", *NARROW, *NO_MASK),
        make_row("no warp", "hd", *NARROW, "train.warp_strength=0"),
        make_row("adversarial phase at the end", "hd", *NARROW, *ADVERSARIAL),
        make_row("perceptual loss", "hd", *NARROW, "train.perceptual_weight=0.1"),
        make_row("no weight on eyes and mouth", "hd", *NARROW, "train.eyes_mouth_weight=0"),
        make_row("no structural loss", "hd", *NARROW, "train.dssim_weight=0"),
        make_row("no residual blocks", "hd", *NARROW, "model.residual_blocks=0"),
        make_row("the classic warp", "hd", *NARROW, *CLASSIC_WARP),
    ]

    laptop = partial(make_row, minutes=LAPTOP)
    light = [
        laptop("96 px, no structural loss", "light", SIDE_96, "train.dssim_weight=0"),
        *(laptop("96 px", "light", SIDE_96, STRUCTURE, seed=seed) for seed in (0, 1)),
        *(laptop("112 px", "light", SIDE_112, STRUCTURE, seed=seed) for seed in (0, 1)),
        laptop("64 px", "light", SIDE_64, STRUCTURE),
        laptop("96 px, structural loss 0.5", "light", SIDE_96, "train.dssim_weight=0.5"),
        laptop("96 px, structural loss 2", "light", SIDE_96, "train.dssim_weight=2"),
        laptop("96 px, the last doubling interpolated", "light", SIDE_96, STRUCTURE, DEPTH_2),
        laptop("96 px, the output doubles", "light", SIDE_96, STRUCTURE, rebuild=DOUBLING),
        laptop("112 px, the output doubles", "light", SIDE_112, STRUCTURE, rebuild=DOUBLING),
        laptop("128 px, the output doubles", "light", *SIDE_128, STRUCTURE, rebuild=DOUBLING),
        laptop("96 px, separable convolutions", "light", SIDE_96, STRUCTURE, rebuild=SEPARABLE),
        laptop("96 px, 2 faces a step", "light", SIDE_96, STRUCTURE, "train.batch_size=2"),
        laptop("96 px, rate 4e-3", "light", SIDE_96, STRUCTURE, "train.learning_rate=4e-3"),
        laptop("96 px, eyes and mouth first", "light", SIDE_96, STRUCTURE, EYES_FIRST),
    ]
    screen = partial(make_row, steps=SCREENING_STEPS)
    hd_changes = [
        screen("light at 64 px", "light", SIDE_64),
        *(screen(name, "light", SIDE_64, *changes) for name, changes in HD_CHANGES.items()),
        screen(
            "the same, each the identity at first",
            "light",
            SIDE_64,
            RESIDUAL,
            rebuild=IDENTITY_AT_FIRST,
        ),
    ]
    final = partial(make_row, steps=FINAL_STEPS)
    hd = [
        *(final("light at 64 px", "light", SIDE_64, seed=seed) for seed in (0, 1)),
        final("hd at 64 px, input jitter 0.3", "light", SIDE_64, *DOUBLE_WIDTH, *FACE_ONLY),
        *(
            final("hd at 64 px", "light", SIDE_64, *DOUBLE_WIDTH, *FACE_ONLY, JITTER, seed=seed)
            for seed in (0, 1)
        ),
    ]
    few_faces = [
        make_row("light, all faces", "light"),
        make_row("light, 20 faces", "light", faces=20),
        make_row("first hd, 64 px, narrow, 20 faces", "hd", *NARROW, faces=20),
        make_row("the same, no mask at all", "hd", *NARROW, *NO_MASK, faces=20),
    ]
    depths = [
        make_row(
            f"depth {depth}",
            "vgg19",
            BATCH_4,
            HIGH_LEARNING_RATE,
            f"model.learned_upsamples={depth}",
            vgg19_file=vgg19_file,
        )
        for depth in range(1, 6)
    ]
    again = partial(make_row, seed=1)
    pretrained = [
        again("light, from scratch", "light"),
        again("light, pretrained on others", "light", pretrained_in=folder),
        again("the same, encoder frozen", "light", "train.freeze=encoder", pretrained_in=folder),
        again("light, 20 faces, from scratch", "light", faces=20),
        again("light, 20 faces, pretrained on others", "light", faces=20, pretrained_in=folder),
    ]
    from_base = [
        make_row("light, from the base", "light", minutes=minutes, seed=seed, base=base)
        for minutes in (SHORT, LAPTOP)
        for seed in (0, 1)
        if base
    ]
    return [
        Part(
            name="presets",
            rows=presets,
            curve_minutes=(2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, LONG),
        ),
        Part(name="encoders", rows=encoders),
        Part(name="light", rows=light),
        Part(name="ablations", rows=ablations),
        Part(name="hd-changes", rows=hd_changes),
        Part(name="hd", rows=hd, curve_steps=(1_000, 2_000, 3_000, FINAL_STEPS)),
        Part(name="few-faces", rows=few_faces),
        Part(name="depth", rows=depths),
        Part(name="pretrained", rows=pretrained, is_shown=lambda _: True),
        Part(name="base", rows=from_base, curve_minutes=(0.25, 0.5, 1, 2, 3)),
    ]


def use_separable_convs(model: SwapModel) -> None:
    """Replace every convolution of 16 channels or more by a depthwise-separable one."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, WinogradConv2d) and layer.in_channels >= 16:
                setattr(parent, name, make_separable(layer).apply(kaiming_init))


def make_separable(layer: nn.Conv2d) -> nn.Sequential:
    """Return the depthwise-separable form (Howard et al., "MobileNets", 2017, section 3.1)."""
    width, size, stride = layer.in_channels, layer.kernel_size[0], layer.stride[0]
    return nn.Sequential(
        nn.Conv2d(width, width, size, stride, padding=size // 2, groups=width),
        nn.Conv2d(width, layer.out_channels, 1),
    )


def upsample_at_output(model: SwapModel) -> None:
    """Replace each decoder's last upsampling block by pixel shuffle in the output layer."""
    assert isinstance(model, Autoencoder)
    for decoder in model.decoders:
        assert isinstance(decoder, Decoder)
        decoder.up = decoder.up[:-1]
        width, count = decoder.up[-1][0].out_channels // 4, decoder.output.out_channels
        output = WinogradConv2d(width, 4 * count, 3).apply(kaiming_init)
        decoder.output = nn.Sequential(output, PixelShuffle())  # type: ignore[assignment]


def zero_residuals(model: SwapModel) -> None:
    """Let every residual block begin as the identity."""
    for layer in model.modules():
        if isinstance(layer, ResidualBlock):
            last = layer.inner[2]
            assert isinstance(last, nn.Conv2d)
            nn.init.zeros_(last.weight)


SEPARABLE = ("depthwise-separable convolutions", use_separable_convs)
IDENTITY_AT_FIRST = ("residual blocks begin as identity", zero_residuals)
DOUBLING = ("the output doubles", upsample_at_output)


def load_pretrained_decoder(model: SwapModel, folder: Path) -> None:
    """Start from weights pretrained on other identities; freeze what the settings say."""
    path = study.pretrain(
        make_row("everybody", "light", minutes=PRETRAIN_MINUTES), folder, PRETRAIN_IDENTITIES
    )
    trained = Autoencoder(model.model_settings, model.train_settings, [POOLED_IDENTITY])
    load_model(trained, path)
    assert isinstance(model, Autoencoder)
    model.init_from(trained)
    freeze_parts(model, model.train_settings.freeze)


def load_base(model: SwapModel, path: Path) -> None:
    """Start from weights that were pretrained on pairs of synthetic people."""
    assert isinstance(model, Autoencoder)
    model.init_from(load_weights(path, torch.device("cpu")).model)


def load_partial_vgg19(model: SwapModel, path: Path) -> None:
    """Load VGG19's first three blocks, from a Keras export, into an encoder; the rest is random."""
    assert isinstance(model, Autoencoder)
    model.load_pretrained(convert_keras_vgg19(read_tensors(path)), partial=True)


def convert_keras_vgg19(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return Keras' VGG19 with torchvision's names and for torchvision's inputs.

    Keras takes BGR from 0 to 255 less a mean; torchvision RGB from 0 to 1, less a mean, over a
    deviation. So the first layer's weights are reversed and scaled; the means are the same to
    less than half a level. Activations scale with the first weights and all biases: Keras' are in
    the hundreds, too large for freshly initialized layers behind them.
    """
    names = layer_names()
    tensors = {names[name]: value.float() for name, value in state.items()}
    first = tensors["features.0.weight"].flip(1)
    deviation = torch.tensor(vgg.IMAGENET_STD).view(1, 3, 1, 1)
    tensors["features.0.weight"] = first * 255 * deviation
    scaled = [name for name in tensors if name.endswith("bias")] + ["features.0.weight"]
    return tensors | {name: tensors[name] / KERAS_FEATURE_SCALE for name in scaled}


def layer_names() -> dict[str, str]:
    """Return Keras' name of each of VGG19's tensors -> torchvision's."""
    names, index = {}, 0
    for block, count in enumerate(vgg.VGG19_BLOCKS):
        for layer in range(count):
            for kind in ("weight", "bias"):
                names[f"block{block + 1}_conv{layer + 1}.{kind}"] = f"features.{index}.{kind}"
            index += 2
        index += 1
    return names


def main() -> None:
    """Run the rows without a result, and write the tables and the grids."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("study-autoencoder"))
    parser.add_argument("--vgg19", type=Path, help="Keras' VGG19, or its first blocks, as tensors")
    parser.add_argument(
        "--base",
        type=Path,
        default=registry.find_base("autoencoder", "light"),
        help="weights of faceswap pretrain; default: the base of light",
    )
    parser.add_argument(
        "--identities",
        nargs=2,
        choices=synthetic.CAST,
        default=study.IDENTITIES,
        help="the two people; another pair needs another folder",
    )
    parser.add_argument("--only", default="", help="parts whose names contain this text")
    parser.add_argument("--threads", type=int, default=1, help="the time of all threads counts")
    arguments = parser.parse_args()
    study.limit_threads(arguments.threads)
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = study.prepare_data(folder, identities=tuple(arguments.identities))
    study.write_table(folder / "baselines.md", study.baselines_table(data))
    for part in make_parts(arguments.vgg19, arguments.base, folder):
        if arguments.only not in part.name:
            continue
        results = study.run_study(part.rows, folder, data)
        tables = [study.results_table(results), study.eyes_mouth_table(part.rows, folder, data)]
        if part.curve_minutes:
            tables.append(study.learning_curve_table(results, part.curve_minutes))
        if part.curve_steps:
            tables.append(study.learning_curve_table(results, part.curve_steps, in_steps=True))
        study.write_table(folder / f"{part.name}.md", "\n".join(tables))
        shown = [one for one in part.rows if part.is_shown(one)]
        grid = study.comparison_grid(shown, folder, data)
        image_io.write_png(folder / f"{part.name}.png", grid)


if __name__ == "__main__":
    main()
