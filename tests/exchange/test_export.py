"""Exported models: equal to the network, and usable where `.dfm` files are used."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from dfm_programs import deepfacelive, facefusion
from fake_models import as_trained
from fakes import RecordingReporter
from onnx import TensorProto, helper
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import FaceTask, build_swapper
from faceswap_cli.core.config import resolve
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, FaceswapError
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import AnyArray, Image, Points
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.exchange import onnx_export
from faceswap_cli.exchange.model_info import ModelInfo
from faceswap_cli.exchange.onnx_export import build_graph, export_graph
from faceswap_cli.exchange.onnx_session import OnnxModel, open_session, run_session
from faceswap_cli.exchange.whole_face import (
    WHOLE_FACE_CENTER,
    WHOLE_FACE_SIDE,
    WholeFace,
)
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.types import Face
from faceswap_cli.provenance.consent import Origin
from faceswap_cli.stages.export import default_export_path, export_model
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame
from faceswap_cli.training.checkpoint import save_weights
from faceswap_models import registry
from faceswap_models.base import ModelSettings, SwapModel, SwapOutput, TrainSettings

SwapProgram = Callable[[bytes, Image, Points], Image]
"""Returns a frame that a program swapped, given a `.dfm` file, the frame and its landmarks."""

NETWORK_PX = 128
ORIGINS = (Origin(records="ab", consent="cd"), Origin(records="ef", consent="01"))
PLAIN = ConvertSettings(mask="both", color="none", match_blur=False, match_grain=False)
"""The model's own pixels, without postprocessing."""


class Painter(SwapModel):
    """Paints a pattern over the face: wherever it lands in the frame is where the square was."""

    def __init__(self, *, predicts_mask: bool = True) -> None:
        super().__init__(ModelSettings(size_px=NETWORK_PX), TrainSettings(), ("ada", "bo"))
        grid = (torch.arange(NETWORK_PX) + 0.5) / NETWORK_PX
        x, y = grid[None, :], grid[:, None]
        pattern = [
            torch.sin(9 * x) * torch.cos(7 * y),
            torch.sin(8 * (x + y)),
            torch.cos(9 * y - 3 * x),
        ]
        self.register_buffer("pattern", 0.6 * torch.stack(pattern))
        oval = (1 - torch.hypot((x - 0.5) / 0.3, (y - 0.46) / 0.4)) * 8 + 0.5
        self.register_buffer("oval", oval.clamp(0, 1)[None, None])
        self.predicts_mask = predicts_mask
        self.unused = nn.Parameter(torch.zeros(1))

    parameter_groups = train_step = None  # type: ignore[assignment]  # not trained here

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return faces with the pattern over them."""
        assert isinstance(self.pattern, Tensor)
        assert isinstance(self.oval, Tensor)
        mask = self.oval.expand_as(faces[:, :1]) if self.predicts_mask else None
        return SwapOutput(image=0.5 * faces + 0.5 * self.pattern, mask=mask)


def info_for(model: SwapModel) -> ModelInfo:
    """Return the description of a model for its last identity."""
    settings = model.model_settings
    return ModelInfo(
        identity=model.identities[-1],
        size_px=settings.size_px,
        coverage=settings.coverage,
        origins=ORIGINS,
    )


def face_model(model: SwapModel) -> FaceModel:
    """Return a model as `convert` runs it."""
    return FaceModel.from_trained(as_trained(model), find_hardware("cpu"))


@pytest.fixture(scope="module")
def frame() -> Image:
    """A synthetic face in a frame of 240 px."""
    rendered = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 160)
    return np.asarray(cv2.copyMakeBorder(rendered.image, *[40] * 4, cv2.BORDER_REPLICATE))


@pytest.fixture(scope="module")
def face(frame: Image) -> Face:
    """The face in it."""
    with LiteRTDetector() as detector:
        return detector.detect(frame)[0]


@pytest.fixture(scope="module")
def painted_dfm() -> bytes:
    """The painter as a `.dfm` file."""
    painter = Painter().eval()
    return export_graph(build_graph(painter, info_for(painter), as_dfm=True))


def convert_frame(model: FaceModel, frame: Image, face: Face) -> tuple[Image, AnyArray]:
    """Return a frame converted with a model, and where the swap shows."""
    swapper = build_swapper(PLAIN, model)
    task = FaceTask(
        identity=model.identities[-1],
        track=0,
        landmarks=face.landmarks,
        alignment=align_face(face.landmarks),
    )
    view = ArrayImage(image=frame)
    layers = swapper.run([swapper.prepare(view, task)])
    size = (frame.shape[1], frame.shape[0])
    return swapper.composite(view, layers).to_array(), swapper.alpha_in_frame(size, layers)


def ssim_inside(one: Image, other: Image, area: AnyArray) -> float:
    """Return the mean SSIM of two images in an area."""
    _, full = structural_similarity(
        one, other, channel_axis=2, full=True, gaussian_weights=True, sigma=1.5, data_range=255
    )
    return float(full[area].mean())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of an autoencoder with random weights."""
    return make_run(tmp_path_factory.mktemp("workspace"), "autoencoder")


def make_run(root: Path, backend: str) -> RunFolder:
    """Write a run with random weights."""
    recipe = resolve(backend, "debug")
    torch.manual_seed(0)
    model = registry.load(backend)(recipe.model, recipe.train, ("ada", "bo"))
    folder = Workspace.open(root).run_folder(f"{backend}-ada-bo")
    write_text(folder.recipe, recipe.to_toml())
    save_weights(
        folder.weights,
        model.select_exported(model.state_dict()),
        recipe=recipe,
        identities=model.identities,
        images_seen=0,
        origins=ORIGINS,
    )
    return folder


def export(run: RunFolder, output: Path, **changes: Any) -> None:  # noqa: ANN401
    """Export a run."""
    arguments: Mapping[str, Any] = {
        "to": output.suffix[1:],
        "identity": None,
        "workspace": Workspace(root=output.parent),
        "report": RecordingReporter(),
    }
    export_model(run.weights, output=output, **{**arguments, **changes})


# --- graphs -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", registry.names())
@pytest.mark.parametrize("to", ["onnx", "dfm"])
def test_every_backend_is_exported_for_any_batch(tmp_path: Path, backend: str, to: str) -> None:
    """ONNX Runtime computes what torch does, in batches of other sizes than those of the check."""
    folder = make_run(tmp_path, backend)
    export(folder, tmp_path / f"bo.{to}")
    proto = onnx.load(tmp_path / f"bo.{to}")
    # What ONNX Runtime 1.11 reads, which DeepFaceLive comes with.
    assert proto.opset_import[0].version <= 16
    assert proto.ir_version <= 8
    model = OnnxModel.open(tmp_path / f"bo.{to}", device="cpu")
    trained = FaceModel.load(folder.weights, device="cpu")
    rng = np.random.default_rng(1)
    size = model.info.size_px
    crops = [rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(5)]
    together = model.infer(crops)
    for crop, (image, _) in zip(crops, together, strict=True):
        (alone, _), *_ = model.infer([crop])
        assert np.abs(image.astype(int) - alone).max() <= 1
    if to == "onnx":
        expected = trained.infer(crops, "bo")
        for one, (image, mask) in zip(expected, together, strict=True):
            # A level is lost where the CPU computes in bfloat16.
            assert np.abs(one.image.astype(int) - image).mean() < 1.5
            assert (one.mask is None) == (mask is None)


@pytest.mark.slow
def test_a_dfm_file_has_the_names_and_layouts_that_programs_read(painted_dfm: bytes) -> None:
    """Names, order, shapes, versions and metadata of the contract."""
    session = open_session(painted_dfm)
    side = WholeFace(size_px=NETWORK_PX, coverage=0.8).side_px
    (face_input,) = session.get_inputs()
    assert "in_face:0" == face_input.name
    assert [side, side, 3] == face_input.shape[1:]
    assert isinstance(face_input.shape[0], str)  # any number of faces
    outputs = [(one.name, one.shape[1:]) for one in session.get_outputs()]
    assert [
        ("out_face_mask:0", [side, side, 1]),
        ("out_celeb_face:0", [side, side, 3]),
        ("out_celeb_face_mask:0", [side, side, 1]),
    ] == outputs
    proto = onnx.load_from_string(painted_dfm)
    assert 12 <= proto.opset_import[0].version <= 16
    metadata = {one.key: one.value for one in proto.metadata_props}
    expected = {"identity": "bo", "size_px": str(side), "color_order": "BGR"}
    assert expected.items() <= metadata.items()
    assert 64 == len(metadata["consent_sha256"])


def test_outputs_of_a_dfm_file_are_in_range(painted_dfm: bytes) -> None:
    """Images and masks are 0 to 1, masks are equal, and 0 around the network's square."""
    side = WholeFace(size_px=NETWORK_PX, coverage=0.8).side_px
    faces = np.random.default_rng(0).random((2, side, side, 3), dtype=np.float32)
    face_mask, swapped, swap_mask = run_session(open_session(painted_dfm), faces)
    assert np.array_equal(face_mask, swap_mask)
    for values in (face_mask, swapped):
        assert values.min() >= 0
        assert values.max() <= 1
    assert 0 == face_mask[:, 0].max() == face_mask[:, :, 0].max()
    assert 1 == pytest.approx(face_mask[:, side // 2, side // 2].min())
    assert np.allclose(faces[:, 0], swapped[:, 0], atol=1e-6)


@pytest.mark.parametrize("size_px", [64, 96, 128, 256])
@pytest.mark.parametrize("coverage", [0.7, 0.8, 1.0])
def test_the_whole_face_is_whole_pixels_of_the_network(size_px: int, coverage: float) -> None:
    """The square is the measured one up to a pixel, and what is cropped is pasted unchanged."""
    square = WholeFace(size_px=size_px, coverage=coverage)
    pixel = coverage / size_px
    assert 0 == square.side_px % 2
    assert WHOLE_FACE_SIDE == pytest.approx(square.side, abs=pixel)
    assert WHOLE_FACE_CENTER == pytest.approx(square.center, abs=pixel / 2)
    for axis in (0, 1):
        # The middle of the unit square is that of the network's own square, in its pixels.
        in_whole = (0.5 - square.center[axis]) / pixel + square.side_px / 2
        assert in_whole - square.first_px(axis) == pytest.approx(size_px / 2)
        indices = np.arange(square.side_px)
        there_and_back = square.crop_indices(axis)[square.paste_indices(axis)]
        is_inside = square.inside_weights(axis) > 0
        assert np.array_equal(indices[is_inside], there_and_back[is_inside])


# --- in other programs, and in ours -----------------------------------------------------------


@pytest.mark.parametrize("program", [facefusion, deepfacelive], ids=["FF", "DFL"])
def test_other_programs_swap_a_face_as_convert_does(
    painted_dfm: bytes, frame: Image, face: Face, program: SwapProgram
) -> None:
    """SSIM above 0.98 where only the swap shows, with the programs' usual settings."""
    converted, alpha = convert_frame(face_model(Painter()), frame, face)
    swapped = program(painted_dfm, frame, face.landmarks)
    whole = np.ones(frame.shape[:2], bool)
    core = cv2.erode(alpha, np.ones((9, 9))) == 255
    assert ssim_inside(converted, swapped, whole) > 0.99
    assert ssim_inside(converted, swapped, core) > 0.98
    assert ssim_inside(converted, frame, core) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("predicts_mask", [True, False])
def test_convert_swaps_with_an_exported_file_as_with_its_network(
    frame: Image, face: Face, tmp_path: Path, predicts_mask: bool
) -> None:
    """`.onnx` to a few levels, `.dfm` up to its mask; also without a mask of the network."""
    painter = Painter(predicts_mask=predicts_mask).eval()
    reference = face_model(Painter(predicts_mask=predicts_mask))
    converted, alpha = convert_frame(reference, frame, face)
    for to in ("onnx", "dfm"):
        path = tmp_path / f"bo.{to}"
        path.write_bytes(export_graph(build_graph(painter, info_for(painter), as_dfm=to == "dfm")))
        model = FaceModel.load(path, device="cpu")
        assert (("bo",), ORIGINS) == (model.identities, model.origins)
        other, _ = convert_frame(model, frame, face)
        if to == "onnx":
            assert np.abs(converted.astype(int) - other).max() <= 3
        assert ssim_inside(converted, other, alpha > 0) > 0.98


def test_a_dfm_file_of_another_program_is_run(tmp_path: Path) -> None:
    """Without metadata, with a second input, and for one face at a time only."""
    path = tmp_path / "Somebody.dfm"
    path.write_bytes(foreign_dfm(side=32))
    model = FaceModel.load(path, device="cpu")
    assert (("Somebody",), 32, ()) == (model.identities, model.size_px, model.origins)
    crops = [np.full((32, 32, 3), (200, 100, level), np.uint8) for level in (0, 50)]
    for crop, swapped in zip(crops, model.infer(crops, "Somebody"), strict=True):
        assert np.array_equal(crop, swapped.image)
        assert swapped.mask is not None
        assert 0.5 == pytest.approx(swapped.mask.mean())


def foreign_dfm(*, side: int) -> bytes:
    """Return a file that returns its input times the morph value, with masks of 0.5 and 1."""
    face, morph = "in_face:0", "morph_value:0"
    constants = [
        helper.make_node(
            "ConstantOfShape",
            ["mask_shape"],
            [name],
            value=helper.make_tensor("value", TensorProto.FLOAT, [1], [value]),
        )
        for name, value in (("out_face_mask:0", 1.0), ("out_celeb_face_mask:0", 0.5))
    ]
    graph = helper.make_graph(
        [helper.make_node("Mul", [face, morph], ["out_celeb_face:0"]), *constants],
        "foreign",
        [
            helper.make_tensor_value_info(face, TensorProto.FLOAT, [1, side, side, 3]),
            helper.make_tensor_value_info(morph, TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side, side, channels])
            for name, channels in (
                ("out_face_mask:0", 1),
                ("out_celeb_face:0", 3),
                ("out_celeb_face_mask:0", 1),
            )
        ],
        [helper.make_tensor("mask_shape", TensorProto.INT64, [4], [1, side, side, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    content: bytes = model.SerializeToString()
    return content


# --- the stage --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_that_differs_from_the_network_is_not_written(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the difference; there is no file."""
    monkeypatch.setattr(onnx_export, "MAX_DIFFERENCE", 0.0)
    with pytest.raises(CheckpointError, match="differs from the network by"):
        export(run, tmp_path / "bo.onnx")
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "name", "message"),
    [
        ({"to": "onxx"}, "a.onnx", 'there is no format called "onxx"'),
        ({"identity": "bob"}, "a.onnx", 'the model has no identity called "bob"'),
        ({"to": "dfm"}, "a.onnx", "a.onnx is no name of a .dfm file"),
    ],
)
def test_wrong_arguments_are_refused(
    run: RunFolder, tmp_path: Path, changes: Mapping[str, Any], name: str, message: str
) -> None:
    """With a hint, before anything is written."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        export(run, tmp_path / name, **changes)
    assert caught.value.hint
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.dfm", "a.onnx"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, name: str) -> None:
    """Damaged files, and ONNX files of other programs."""
    (tmp_path / name).write_bytes(foreign_dfm(side=8)[:300])
    with pytest.raises(CheckpointError, match="is not a model that this version can run"):
        FaceModel.load(tmp_path / name, device="cpu")


def test_a_model_that_fails_when_it_runs_is_an_error_of_the_file() -> None:
    """What a file says of its input may be wrong."""
    session = open_session(foreign_dfm(side=8))
    with pytest.raises(CheckpointError, match="cannot run this model"):
        run_session(session, np.zeros((1, 16, 16, 3), np.float32))


@pytest.mark.slow
def test_a_missing_package_is_named(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it, when writing and when reading."""
    export(run, tmp_path / "bo.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    calls = (
        lambda: export(run, tmp_path / "bo.dfm"),
        lambda: FaceModel.load(tmp_path / "bo.onnx", device="cpu"),
    )
    for call in calls:
        with pytest.raises(FaceswapError, match="onnxruntime is not installed") as caught:
            call()
        assert 'pip install "faceswap-cli[onnx]"' == caught.value.hint


@pytest.mark.slow
def test_an_export_without_a_name_is_named_after_run_and_identity(
    run: RunFolder, tmp_path: Path
) -> None:
    """It is in the workspace's exports; consent that is not recorded is noted."""
    report = RecordingReporter()
    summary = export_model(
        run.weights,
        to="onnx",
        identity="ada",
        output=None,
        workspace=Workspace(root=tmp_path),
        report=report,
    )
    assert tmp_path / "exports" / "autoencoder-ada-bo-ada.onnx" == summary.output
    assert summary.max_difference <= onnx_export.MAX_DIFFERENCE
    assert [] == report.notes


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("a-b/weights.safetensors", "a-b-bo.onnx"),
        ("a-b/best.safetensors", "a-b-bo.onnx"),
        ("copies/friday.safetensors", "friday-bo.onnx"),
    ],
)
def test_the_name_is_that_of_the_run_or_of_the_file(
    tmp_path: Path, weights: str, name: str
) -> None:
    """Both files of a run are called by the run: their own names are those of every run."""
    space = Workspace(root=tmp_path)
    assert space.exports / name == default_export_path(space, tmp_path / weights, "bo", "onnx")


@pytest.mark.slow
def test_the_command_exports_a_run(run: RunFolder, tmp_path: Path) -> None:
    """The ending of the output's name is the format, and the result is printed."""
    output = tmp_path / "b.dfm"
    words = ["export", run.name, "-o", output, "--workspace", run.root.parents[1], "--json"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert 0 == done.exit_code, done.output
    result = json.loads(done.stdout)
    assert ("dfm", "bo", str(output)) == (result["format"], result["identity"], result["output"])
    assert output.is_file()


@pytest.mark.parametrize("words", [["RUN"], ["--to", "onnx"], ["--identity", "a"]])
def test_a_model_and_a_set_are_not_exported_together(tmp_path: Path, words: list[str]) -> None:
    """The hint has the command for the set."""
    done = CliRunner().invoke(
        app, ["export", *words, "--faces", "a", "--workspace", str(tmp_path / "w")]
    )
    assert 2 == done.exit_code
    assert "faceswap export --faces a" in done.stderr


def test_a_name_that_would_move_the_cursor_is_refused() -> None:
    """What is written is read back; an identity with control characters is of somebody else."""
    info = ModelInfo(identity="bo", size_px=64, coverage=0.8, origins=ORIGINS)
    assert info == ModelInfo.from_metadata(info.to_metadata())
    with pytest.raises(ValueError, match="control characters"):
        ModelInfo.from_metadata({**info.to_metadata(), "identity": "bo\x1b[2J"})
