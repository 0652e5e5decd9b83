"""What a run begins with: everybody's encoder, a trained run, a file of weights, frozen parts."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from faceswap_cli.core import config
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, FaceswapError, InputError
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import StopCriterion, TrainJob, build_model, resolve_recipe, train
from faceswap_cli.training import loop
from faceswap_cli.training.checkpoint import load_weights
from faceswap_cli.training.dataset import load_identity, merge_sets
from faceswap_cli.training.loader import make_loader
from faceswap_cli.training.pretrained import VGG16_LAYERS, InitConfig, read_tensors, read_vgg16
from faceswap_cli.training.swap_metrics import FaceAnalyzer, SwapEvaluator
from faceswap_cli.training.validation import validate
from faceswap_models import vgg

MakeSet = Callable[..., FaceSet]
TINY_SETTINGS = ("train.batch_size=2", "train.preview_interval_images=0", "model.latent_dim=8")
VGG = (
    "model.encoder=vgg19",
    "model.decoder_channels=8,8,8,8,8",
    "train.unfreeze_start_images=1000",
    *TINY_SETTINGS,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny networks are fastest on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads the faces of these sets, which are none."""

    def shut(held: ExitStack) -> FaceAnalyzer:
        raise InputError("the readers are not here")

    monkeypatch.setattr(loop, "SwapEvaluator", partial(SwapEvaluator, load_analyzer=shut))


@pytest.fixture
def space(tmp_path: Path) -> Callable[[str], RunFolder]:
    """Return a function that names a run's folder."""
    return lambda name: RunFolder(root=tmp_path / "runs" / name)


def debug_recipe(*changes: str) -> Recipe:
    """Return the debug preset, changed."""
    return config.resolve("autoencoder", "debug", [*TINY_SETTINGS, *changes])


def train_run(
    sets: Sequence[FaceSet],
    run: RunFolder,
    images: int = 8,
    recipe: Recipe | None = None,
    **beginning: Any,  # noqa: ANN401 - as `Beginning` takes them
) -> dict[str, Tensor]:
    """Train on the CPU; return the raw weights at the end."""
    train(
        TrainJob(
            sets=sets,
            recipe=recipe or debug_recipe(),
            run=run,
            stop_criterion=StopCriterion(max_images=images),
            device="cpu",
            seed=1,
            init=InitConfig(**beginning),
        ),
        report=Reporter(),
    )
    state = load_file(run.resume)
    return {name.removeprefix("model/"): one for name, one in state.items() if "model/" in name}


def tensors_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one part."""
    return {name: one for name, one in weights.items() if name.startswith(prefix)}


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Say whether two parts are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_new_person_is_trained_into_a_trained_encoder(
    make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """With the encoder frozen only the new decoder learns, and the encoder stays bit for bit."""
    old = train_run([make_set("ada", 12), make_set("bo", 12)], space("old"))
    recipe = debug_recipe("train.freeze=encoder")
    cy, begin = [make_set("cy", 12, hue=2)], partial(train_run, init_from=space("old").weights)
    new = begin(cy, space("new"), recipe=recipe, images=2, min_identities=1)
    later = begin(cy, space("new"), recipe=recipe, images=8, min_identities=1)
    # What is taken over are the averaged weights, as float16 stores them.
    stored = {name: value.float() for name, value in load_file(space("old").weights).items()}
    assert is_same(tensors_of(stored, "encoder."), tensors_of(new, "encoder."))
    assert is_same(tensors_of(stored, "encoder."), tensors_of(later, "encoder."))
    assert not is_same(tensors_of(new, "decoders."), tensors_of(later, "decoders."))
    assert not is_same(tensors_of(old, "encoder."), tensors_of(later, "encoder."))


def test_a_thawed_encoder_learns_again(
    make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """What is frozen may change when a run goes on: the optimizer's places hold."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(sets, space("old"))
    begin = partial(train_run, sets, space("new"), init_from=space("old").weights)
    frozen = begin(recipe=debug_recipe("train.freeze=encoder"), images=8)
    thawed = begin(images=16)
    assert not is_same(tensors_of(frozen, "encoder."), tensors_of(thawed, "encoder."))


def test_everybody_is_one_person(make_set: MakeSet, space: Callable[[str], RunFolder]) -> None:
    """With `pools` all sets train one decoder; new people begin with it and its encoder."""
    sets = [make_set("ada", 12, hue=0), make_set("bo", 12, hue=1), make_set("cy", 12, hue=2)]
    everybody = train_run(sets, space("all"), pool_identities=True, min_identities=1)
    assert {"decoders.0"} == {name[:10] for name in tensors_of(everybody, "decoders.")}
    begun = train_run(sets[:2], space("two"), images=4, init_from=space("all").weights)
    assert {"decoders.0", "decoders.1"} == {name[:10] for name in tensors_of(begun, "decoders.")}


def test_one_person_alone_is_not_taken_for_a_copy(make_set: MakeSet, tmp_path: Path) -> None:
    """Where nobody is swapped with, swaps cannot be found to have become copies."""
    person = load_identity(make_set("ada", 20), cache=tmp_path / "cache", side_px=48)
    recipe = debug_recipe()
    model = build_model(recipe, ["ada"], find_hardware("cpu"), seed=0).eval()
    feed = make_loader(
        [person], model=recipe.model, train=recipe.train, seed=0, device=torch.device("cpu")
    )
    with torch.no_grad():
        assert 1 == validate(model, feed).swap_change


def test_three_people_have_a_decoder_each(
    make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """One encoder, three decoders; what is trained swaps to each of the three by name."""
    names = ("ada", "bo", "cy")
    weights = train_run(
        [make_set(name, 12, hue=hue) for hue, name in enumerate(names)], space("three")
    )
    assert 3 == len({name.split(".")[1] for name in tensors_of(weights, "decoders.")})
    trained = load_weights(space("three").weights, torch.device("cpu"))
    assert names == trained.identities
    faces = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        swaps = [trained.model.swap(faces, name).image for name in names]
    assert not any(torch.equal(one, swaps[turn - 1]) for turn, one in enumerate(swaps))


def test_pooled_sets_are_one_set_in_their_order(make_set: MakeSet) -> None:
    """Every face of every set is there, and its crop is found."""
    sets = [make_set("ada", 3), make_set("bo", 2)]
    both = merge_sets(sets, name="everybody")
    assert 5 == len(both)
    assert [one.path(record) for one in sets for record in one.records] == [
        both.path(record) for record in both.records
    ]


def test_a_run_goes_on_with_the_preset_it_began_with(
    make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """Nobody has to name it again; a run from another begins with that one's; else the default."""
    train_run([make_set("ada", 12), make_set("bo", 12)], space("old"))
    fresh, from_old = InitConfig(), InitConfig(init_from=space("old").weights)

    def preset(backend: str, run: str, init: InitConfig) -> str:
        recipe = resolve_recipe(backend, None, [], run=space(run), init=init, device="cpu")
        return recipe.preset

    assert "debug" == preset("autoencoder", "old", fresh)
    assert "debug" == preset("autoencoder", "new", from_old)
    assert "light" == preset("autoencoder", "new", fresh)
    assert "light" == preset("cyclegan", "old", fresh)


def test_hd_is_what_a_gpu_trains() -> None:
    """Without a GPU the default is light; a preset that is named is taken either way."""
    assert "light" == config.resolve("autoencoder", None).preset
    assert "hd" == config.resolve("autoencoder", None, on_gpu=True).preset
    assert "debug" == config.resolve("autoencoder", "debug", on_gpu=True).preset


RefusalCase = tuple[type[FaceswapError], str, dict[str, Path], tuple[str, ...]]
REFUSALS: dict[str, RefusalCase] = {
    "a frozen part that is not there": (
        ConfigurationError,
        'no part called "encodr"',
        {},
        ("train.freeze=encodr",),
    ),
    "everything frozen": (
        ConfigurationError,
        "nothing is left to learn",
        {},
        ("train.freeze=encoder,decoders",),
    ),
    "a random encoder frozen": (
        ConfigurationError,
        "nothing trained to keep",
        {},
        ("train.freeze=encoder",),
    ),
    "weights that nobody asked for": (
        ConfigurationError,
        "begin at random",
        {"encoder_weights": Path("vgg19.pth")},
        (),
    ),
    "a file of weights that is missing": (
        InputError,
        "no such file: vgg19.pth",
        {"encoder_weights": Path("vgg19.pth")},
        VGG,
    ),
    "a run that is missing": (CheckpointError, "does not exist", {"init_from": Path("x")}, ()),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_begin_is_refused(
    case: str, make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """Each wrong beginning is one clear line, before anything is written."""
    kind, told, beginning, changes = REFUSALS[case]
    sets = [make_set("ada", 12), make_set("bo", 12)]
    with pytest.raises(kind, match=told):
        train_run(sets, space("new"), 8, recipe=debug_recipe(*changes), **beginning)
    assert not space("new").resume.exists()


def test_other_networks_are_named(make_set: MakeSet, space: Callable[[str], RunFolder]) -> None:
    """A run whose networks differ cannot be begun with, and the hint names its preset."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(sets, space("old"))
    with pytest.raises(ConfigurationError, match="built differently") as caught:
        train_run(
            sets,
            space("new"),
            recipe=debug_recipe("model.latent_dim=4"),
            init_from=space("old").weights,
        )
    assert "'debug'" in str(caught.value.hint)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with VGG19's names and shapes as torchvision stores them, dense layers included."""
    torch.manual_seed(4)
    layers = vgg.conv_layers(vgg.VGG19_BLOCKS)
    state = {f"features.{name}": one for name, one in layers.state_dict().items()}
    state |= {f"classifier.{layer}.bias": torch.zeros(8) for layer in (0, 3, 6)}
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_vgg19_begins_with_the_file_that_is_given(
    kind: str,
    imagenet: Path,
    tmp_path: Path,
    make_set: MakeSet,
    space: Callable[[str], RunFolder],
) -> None:
    """The encoder is the file's, and while it is frozen stays so, whichever way it is stored."""
    state = torch.load(imagenet, weights_only=True)
    path = imagenet
    if kind == "safetensors":
        path = tmp_path / "vgg19.safetensors"
        save_file(state, path)
    sets = [make_set("ada", 12), make_set("bo", 12)]
    trained = train_run(
        sets, space("vgg"), recipe=debug_recipe(*VGG), images=4, encoder_weights=path
    )
    for name, one in tensors_of(trained, "encoder.features.").items():
        assert torch.equal(state[name.removeprefix("encoder.")], one)


def test_a_run_that_goes_on_needs_the_file_no_more(
    imagenet: Path, tmp_path: Path, make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """Its weights are the run's own from the first save on."""
    sets = [make_set("ada", 12), make_set("bo", 12)]
    train_run(sets, space("vgg"), recipe=debug_recipe(*VGG), images=4, encoder_weights=imagenet)
    gone = tmp_path / "gone.pth"
    train_run(sets, space("vgg"), recipe=debug_recipe(*VGG), images=8, encoder_weights=gone)


def test_without_a_file_and_offline_both_ways_are_said(
    make_set: MakeSet,
    space: Callable[[str], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The message says that VGG19 is missing; the hint says where it is, and how to give it."""

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network here")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("faceswap_cli.core.model_files.urlopen", offline)
    sets = [make_set("ada", 12), make_set("bo", 12)]
    with pytest.raises(InputError, match=r"vgg19-dcbb9e9d\.pth is not on this machine") as caught:
        train_run(sets, space("vgg"), recipe=debug_recipe(*VGG))
    assert "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth" in str(caught.value.hint)
    assert "--encoder-weights FILE" in str(caught.value.hint)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    """Text, pictures and objects are no weights; of a pickle nothing is run."""
    text = tmp_path / "weights.pth"
    text.write_text("hello", encoding="utf-8")
    with pytest.raises(InputError, match="not a file of weights"):
        read_tensors(text)
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(b"123")
    with pytest.raises(InputError, match="not a file of weights"):
        read_tensors(broken)
    whole = tmp_path / "object.pth"
    torch.save(Path("x"), whole)
    with pytest.raises(InputError, match="not a file of weights"):
        read_tensors(whole)
    listed = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], listed)
    with pytest.raises(InputError, match="does not hold tensors by name"):
        read_tensors(listed)


def test_a_file_with_other_names_says_which_is_missing(
    tmp_path: Path, make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """The first layer that is not there is named."""
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(1)}, path)
    sets = [make_set("ada", 12), make_set("bo", 12)]
    with pytest.raises(InputError, match=r"there is no features\.0\.weight"):
        train_run(sets, space("vgg"), recipe=debug_recipe(*VGG), encoder_weights=path)


def test_the_perceptual_loss_takes_a_file(
    imagenet: Path, make_set: MakeSet, space: Callable[[str], RunFolder]
) -> None:
    """A run learns with it, and leaves none of VGG's weights in its own."""
    recipe = debug_recipe("train.perceptual_weight=0.1", f"train.perceptual_file={imagenet}")
    trained = train_run([make_set("ada", 12), make_set("bo", 12)], space("seen"), recipe=recipe)
    plain = train_run([make_set("ada", 12), make_set("bo", 12)], space("plain"))
    assert trained.keys() == plain.keys()
    assert not is_same(tensors_of(plain, "decoders."), tensors_of(trained, "decoders."))


def test_vgg16_is_read_in_place(tmp_path: Path) -> None:
    """Kernels lie as height, width, in, out; they come out by torchvision's names and order."""
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
