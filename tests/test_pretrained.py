"""Initialization of a run: a pooled encoder, a trained run, a file of weights, frozen parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.core import config
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, FaceswapError, InputError
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import StopCriterion, TrainJob, build_model, resolve_recipe, train
from faceswap_cli.training.checkpoint import load_weights, read_checkpoint
from faceswap_cli.training.dataset import load_identity, merge_sets
from faceswap_cli.training.loader import make_loader
from faceswap_cli.training.pretrained import VGG16_LAYERS, InitConfig, read_tensors, read_vgg16
from faceswap_cli.training.validation import validate
from faceswap_models import registry, vgg

pytestmark = pytest.mark.usefixtures("no_face_models")
MakeSet = Callable[..., FaceSet]
TINY_SETTINGS = ("train.batch_size=2", "train.preview_interval_images=0", "model.latent_dim=8")
VGG = (
    "model.encoder=vgg19",
    "model.decoder_channels=8,8,8,8,8",
    "train.unfreeze_start_images=1000",
    *TINY_SETTINGS,
)


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[[str], RunFolder]:
    """Return a function from a run's name to its folder."""
    return lambda name: RunFolder(root=tmp_path / "runs" / name)


def debug_recipe(*changes: str) -> Recipe:
    """Return the debug preset, changed."""
    return config.resolve("autoencoder", "debug", [*TINY_SETTINGS, *changes])


def train_run(
    sets: Sequence[FaceSet],
    run: RunFolder,
    images: int = 8,
    recipe: Recipe | None = None,
    **init: Any,  # noqa: ANN401 - as `InitConfig` takes them
) -> dict[str, Tensor]:
    """Train on the CPU; return the weights at the end, not averaged."""
    train(
        TrainJob(
            sets=sets,
            recipe=recipe or debug_recipe(),
            run=run,
            stop_criterion=StopCriterion(max_images=images),
            device="cpu",
            seed=1,
            init=InitConfig(**init),
        ),
        report=Reporter(),
    )
    state = load_file(run.resume)
    return {name.removeprefix("model/"): one for name, one in state.items() if "model/" in name}


def select_tensors(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one part."""
    return {name: one for name, one in weights.items() if name.startswith(prefix)}


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether two parts are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_new_identity_is_trained_on_a_trained_encoder(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """With a frozen encoder only the new decoder is trained; the encoder stays bit for bit."""
    old = train_run([make_set("ada", 12), make_set("bo", 12)], run_folder("old"))
    recipe = debug_recipe("train.freeze=encoder")
    cy, start = [make_set("cy", 12, hue=2)], partial(train_run, init_from=run_folder("old").weights)
    new = start(cy, run_folder("new"), recipe=recipe, images=2, min_identities=1)
    later = start(cy, run_folder("new"), recipe=recipe, images=8, min_identities=1)
    # The averaged weights are copied, as float16 stores them.
    stored = {name: value.float() for name, value in load_file(run_folder("old").weights).items()}
    assert is_same(select_tensors(stored, "encoder."), select_tensors(new, "encoder."))
    assert is_same(select_tensors(stored, "encoder."), select_tensors(later, "encoder."))
    assert not is_same(select_tensors(new, "decoders."), select_tensors(later, "decoders."))
    assert not is_same(select_tensors(old, "encoder."), select_tensors(later, "encoder."))


def test_a_person_is_added_to_a_trained_run(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """Their decoder starts from the first person's; convert swaps them in from their own run."""
    people = [make_set("ada", 12), make_set("bo", 12), make_set("cy", 12, hue=2)]
    train_run(people[:2], run_folder("old"))
    recipe = debug_recipe()
    old = load_weights(run_folder("old").weights, torch.device("cpu")).model
    new = registry.load("autoencoder")(recipe.model, recipe.train, ("cy", "bo"))
    new.init_from(old)
    ours, theirs = new.state_dict(), old.state_dict()
    assert is_same(select_tensors(theirs, "encoder."), select_tensors(ours, "encoder."))
    for index, known in enumerate((0, 1)):  # cy as ada, bo as bo
        decoder = select_tensors(theirs, f"decoders.{known}.")
        assert all(
            torch.equal(value, ours[name.replace(f".{known}.", f".{index}.", 1)])
            for name, value in decoder.items()
        )
    train_run(
        people[2:],
        run_folder("new"),
        recipe=debug_recipe("train.freeze=encoder"),
        images=4,
        min_identities=1,
        init_from=run_folder("old").weights,
    )
    model = FaceModel.load(run_folder("new").weights, device="cpu")
    assert ("cy",) == model.identities
    [swap] = model.infer([np.full((model.size_px,) * 2 + (3,), 90, np.uint8)], "cy")
    assert swap.image.std() > 0


def test_an_unfrozen_encoder_is_trained_again(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """Frozen parts may change when a run resumes: the optimizer's indices stay valid."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(sets, run_folder("old"))
    start = partial(train_run, sets, run_folder("new"), init_from=run_folder("old").weights)
    frozen = start(recipe=debug_recipe("train.freeze=encoder"), images=8)
    unfrozen = start(images=16)
    assert not is_same(select_tensors(frozen, "encoder."), select_tensors(unfrozen, "encoder."))


def test_pooled_identities_share_a_decoder(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """With `pool_identities` all sets train one decoder, from which a new run starts."""
    sets = [make_set("ada", 12, hue=0), make_set("bo", 12, hue=1), make_set("cy", 12, hue=2)]
    pooled = train_run(sets, run_folder("all"), pool_identities=True, min_identities=1)
    assert {"decoders.0"} == {name[:10] for name in select_tensors(pooled, "decoders.")}
    weights = train_run(sets[:2], run_folder("two"), images=4, init_from=run_folder("all").weights)
    assert {"decoders.0", "decoders.1"} == {
        name[:10] for name in select_tensors(weights, "decoders.")
    }


def test_a_single_identity_has_a_swap_change_of_one(make_set: MakeSet, tmp_path: Path) -> None:
    """Without swaps, the check for copies of the input must not fail."""
    ada = load_identity(make_set("ada", 20), cache=tmp_path / "cache", side_px=48)
    recipe = debug_recipe()
    model = build_model(recipe, ["ada"], find_hardware("cpu"), seed=0).eval()
    loader = make_loader(
        [ada], model=recipe.model, train=recipe.train, seed=0, device=torch.device("cpu")
    )
    with torch.no_grad():
        assert 1 == validate(model, loader).swap_change


def test_three_identities_have_a_decoder_each(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """One encoder, three decoders; the trained model swaps to each of the three by name."""
    names = ("ada", "bo", "cy")
    weights = train_run(
        [make_set(name, 12, hue=hue) for hue, name in enumerate(names)], run_folder("three")
    )
    assert 3 == len({name.split(".")[1] for name in select_tensors(weights, "decoders.")})
    trained = load_weights(run_folder("three").weights, torch.device("cpu"))
    assert names == trained.identities
    faces = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        swaps = [trained.model.swap(faces, name).image for name in names]
    assert not any(torch.equal(one, swaps[index - 1]) for index, one in enumerate(swaps))


def test_merged_sets_are_one_set_in_their_order(make_set: MakeSet) -> None:
    """The merged set has every face of every set, and finds its crop."""
    sets = [make_set("ada", 3), make_set("bo", 2)]
    merged = merge_sets(sets, name="pooled")
    assert 5 == len(merged)
    assert [one.path(record) for one in sets for record in one.records] == [
        merged.path(record) for record in merged.records
    ]


def test_a_run_resumes_with_its_preset(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """It need not be given again; a run from another starts with that one's; else the default."""
    train_run([make_set("ada", 12), make_set("bo", 12)], run_folder("old"))
    fresh, from_old = InitConfig(), InitConfig(init_from=run_folder("old").weights)

    def preset(backend: str, run: str, init: InitConfig) -> str:
        recipe = resolve_recipe(backend, None, [], run=run_folder(run), init=init)
        return recipe.preset

    assert "debug" == preset("autoencoder", "old", fresh)
    assert "debug" == preset("autoencoder", "new", from_old)
    assert "light" == preset("autoencoder", "new", fresh)
    assert "light" == preset("cyclegan", "old", fresh)


def test_a_run_goes_on_with_its_preset_as_it_was(
    make_set: MakeSet,
    run_folder: Callable[[str], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A preset that was changed since counts for new runs only; options count in both."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(sets, run_folder("old"))
    before = read_checkpoint(run_folder("old").resume).recipe
    presets = registry.presets("autoencoder")
    changed = replace(
        presets["debug"],
        model={**presets["debug"].model, "encoder_channels": [4, 4, 4]},
        train={**presets["debug"].train, "learning_rate": 0.5},
    )
    monkeypatch.setattr(registry, "presets", lambda _: {**presets, "debug": changed})

    def resolve(run: str, preset: str | None, *changes: str, **init: Any) -> Recipe:  # noqa: ANN401
        return resolve_recipe(
            "autoencoder",
            preset,
            changes,
            run=run_folder(run),
            init=InitConfig(**init),
        )

    for preset in (None, "debug", "autoencoder-debug"):
        recipe = resolve("old", preset)
        assert [] == config.list_model_differences(before, recipe)
        assert before.train.learning_rate == recipe.train.learning_rate
    train_run(sets, run_folder("old"), 16, recipe=recipe)
    assert 16 == read_checkpoint(run_folder("old").resume).state.images_seen
    assert 1e-4 == resolve("old", None, "train.learning_rate=1e-4").train.learning_rate
    assert config.list_model_differences(before, resolve("old", None, "model.latent_dim=4"))
    assert config.list_model_differences(before, resolve("old", "light"))
    assert 0.5 == resolve("new", "debug").train.learning_rate
    from_old = resolve("new", None, init_from=run_folder("old").weights)
    assert [] == config.list_model_differences(before, from_old)


RefusalCase = tuple[type[FaceswapError], str, dict[str, Path], tuple[str, ...]]
REFUSALS: dict[str, RefusalCase] = {
    "an unknown frozen part": (
        ConfigurationError,
        'no part called "encodr"',
        {},
        ("train.freeze=encodr",),
    ),
    "everything frozen": (
        ConfigurationError,
        "nothing is left to train",
        {},
        ("train.freeze=encoder,decoders",),
    ),
    "a random encoder frozen": (
        ConfigurationError,
        "nothing trained to freeze",
        {},
        ("train.freeze=encoder",),
    ),
    "weights for networks that need none": (
        ConfigurationError,
        "have no use for them",
        {"encoder_weights": Path("vgg19.pth")},
        (),
    ),
    "a missing file of weights": (
        InputError,
        "no such file: vgg19.pth",
        {"encoder_weights": Path("vgg19.pth")},
        VGG,
    ),
    "a missing run": (CheckpointError, "does not exist", {"init_from": Path("x")}, ()),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_invalid_initialization_is_refused(
    case: str, make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """Each is one clear error, before anything is written."""
    kind, message, init, changes = REFUSALS[case]
    sets = [make_set("ada", 12), make_set("bo", 12)]
    with pytest.raises(kind, match=message):
        train_run(sets, run_folder("new"), 8, recipe=debug_recipe(*changes), **init)
    assert not run_folder("new").resume.exists()


def test_other_networks_are_refused(
    make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """A run cannot start from different networks; the hint names their preset."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(sets, run_folder("old"))
    with pytest.raises(ConfigurationError, match="built differently") as caught:
        train_run(
            sets,
            run_folder("new"),
            recipe=debug_recipe("model.latent_dim=4"),
            init_from=run_folder("old").weights,
        )
    assert "'debug'" in str(caught.value.hint)


@pytest.fixture(scope="module")
def vgg19_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file with VGG19's names and shapes as torchvision stores them; return its path."""
    torch.manual_seed(4)
    layers = vgg.conv_layers(vgg.VGG19_BLOCKS)
    state = {f"features.{name}": one for name, one in layers.state_dict().items()}
    state |= {f"classifier.{layer}.bias": torch.zeros(8) for layer in (0, 3, 6)}
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_vgg19_starts_from_the_given_file(
    kind: str,
    vgg19_file: Path,
    tmp_path: Path,
    make_set: MakeSet,
    run_folder: Callable[[str], RunFolder],
) -> None:
    """The encoder is the file's, of either format, and stays so while it is frozen."""
    state = torch.load(vgg19_file, weights_only=True)
    path = vgg19_file
    if kind == "safetensors":
        path = tmp_path / "vgg19.safetensors"
        save_file(state, path)
    sets = [make_set("ada", 12), make_set("bo", 12)]
    trained = train_run(
        sets, run_folder("vgg"), recipe=debug_recipe(*VGG), images=4, encoder_weights=path
    )
    for name, one in select_tensors(trained, "encoder.features.").items():
        assert torch.equal(state[name.removeprefix("encoder.")], one)


@pytest.mark.slow
def test_a_resumed_run_does_not_need_the_file(
    vgg19_file: Path, tmp_path: Path, make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """Its weights are in the run's first checkpoint."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(
        sets, run_folder("vgg"), recipe=debug_recipe(*VGG), images=4, encoder_weights=vgg19_file
    )
    missing = tmp_path / "missing.pth"
    train_run(sets, run_folder("vgg"), recipe=debug_recipe(*VGG), images=8, encoder_weights=missing)


def test_offline_without_a_file_the_hint_names_both_ways(
    make_set: MakeSet,
    run_folder: Callable[[str], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The error says that VGG19 is missing; the hint has its address, and how to give a file."""

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("faceswap_cli.core.model_files.urlopen", offline)
    sets = [make_set("ada", 12), make_set("bo", 12)]
    with pytest.raises(InputError, match=r"vgg19-dcbb9e9d\.pth is not on this machine") as caught:
        train_run(sets, run_folder("vgg"), recipe=debug_recipe(*VGG))
    assert "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" in str(caught.value.hint)
    assert "--encoder-weights FILE" in str(caught.value.hint)


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    """Text, damaged files and objects are refused; no pickle is run."""
    text = tmp_path / "weights.pth"
    text.write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match="not a file of weights"):
        read_tensors(text)
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(b"123")
    with pytest.raises(InputError, match="not a file of weights"):
        read_tensors(broken)
    not_tensors = tmp_path / "object.pth"
    torch.save(Path("x"), not_tensors)
    with pytest.raises(InputError, match="not a file of weights"):
        read_tensors(not_tensors)
    unnamed = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], unnamed)
    with pytest.raises(InputError, match="does not hold tensors by name"):
        read_tensors(unnamed)


def test_the_first_missing_tensor_is_named(
    tmp_path: Path, make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """A file with other names is refused."""
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)
    sets = [make_set("ada", 12), make_set("bo", 12)]
    with pytest.raises(InputError, match=r"features\.0\.weight is missing"):
        train_run(sets, run_folder("vgg"), recipe=debug_recipe(*VGG), encoder_weights=path)


def test_the_perceptual_loss_is_trained_from_a_file(
    vgg19_file: Path, make_set: MakeSet, run_folder: Callable[[str], RunFolder]
) -> None:
    """It changes the training, and VGG's weights are not saved in the run."""
    recipe = debug_recipe("train.perceptual_weight=0.1", f"train.perceptual_file={vgg19_file}")
    trained = train_run(
        [make_set("ada", 12), make_set("bo", 12)], run_folder("perceptual"), recipe=recipe
    )
    plain = train_run([make_set("ada", 12), make_set("bo", 12)], run_folder("plain"))
    assert trained.keys() == plain.keys()
    assert not is_same(select_tensors(plain, "decoders."), select_tensors(trained, "decoders."))


def test_vgg16_is_read_by_its_layout(tmp_path: Path) -> None:
    """Kernels are stored as height, width, in, out; they are read in torchvision's order."""
    last = max(offset for layer in VGG16_LAYERS for offset in layer[1:3])
    data = bytearray(last + 4 * 256)
    kernels = {}
    for number, kernel, bias, shape in VGG16_LAYERS:
        values = np.random.default_rng(number).random(shape, dtype=np.float32)
        kernels[number] = values
        data[kernel : kernel + values.nbytes] = values.tobytes()
        data[bias : bias + 4 * shape[-1]] = np.full(shape[-1:], number, "<f4").tobytes()
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(data)
    state = read_vgg16(path)
    shallow = vgg.conv_layers(vgg.PERCEPTUAL_BLOCKS)
    assert len(shallow.state_dict()) == vgg.load_torchvision_weights(shallow, state)
    for number, values in kernels.items():
        assert values[2, 1, 0, 3] == state[f"features.{number}.weight"][3, 0, 2, 1]
        assert number == state[f"features.{number}.bias"][0]
