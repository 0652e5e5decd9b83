"""The law of convert: the video stays the video, and only the face in it is another."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from faceswap_cli import pictures
from faceswap_cli.actors import CAST, Actor, draw, perform
from faceswap_cli.arrays import AnyArray, Image
from faceswap_cli.blend.composite import Compositor
from faceswap_cli.config import Recipe, resolve
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.detectors import DEFAULT
from faceswap_cli.faces.litert import LiteRTDetector
from faceswap_cli.files import write_text
from faceswap_cli.learning.checkpoint import TrainedModel
from faceswap_cli.learning.hardware import find_hardware
from faceswap_cli.report import Number, Silent
from faceswap_cli.stages import convert as stage
from faceswap_cli.stages.convert import ConvertSettings, FaceSwap, SwappedFace, convert
from faceswap_cli.stages.extract import ExtractSettings, extract
from faceswap_cli.video.reader import Frame, probe, read_frames
from faceswap_cli.video.writer import Sound, VideoWriter
from faceswap_cli.workspace import Workspace
from faceswap_models import registry
from faceswap_models.base import ModelSettings, SwapModel, Swapped, TrainSettings

SIDE_PX = 192
TICK = Fraction(1, 1000)
TIMES = [Fraction(ms, 1000) for ms in (0, 40, 80, 133, 160, 200, 230, 280, 320, 351, 400, 440)]
"""Frames at uneven distances, as phones record."""


class Echo(SwapModel):
    """A model for which everybody looks as they are."""

    def __init__(self) -> None:
        super().__init__(ModelSettings(size_px=128), TrainSettings(), ("ada", "bo"))
        self.nothing = nn.Parameter(torch.zeros(1))

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return nothing to learn."""
        return {"all": [self.nothing]}

    def train_step(self, *_: object) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Return the faces."""
        return Swapped(faces, None)


class Veiled(Echo):
    """A model that paints all green, and says that there is no face anywhere."""

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Return green faces under an empty mask."""
        green = torch.tensor([-1.0, 1.0, -1.0]).view(1, 3, 1, 1).expand_as(faces)
        return Swapped(green, torch.zeros_like(faces[:, :1]))


class Broken(Echo):
    """A model that fails at its second batch."""

    batches = 0

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Return the faces once."""
        self.batches += 1
        if self.batches > 1:
            raise RuntimeError("the network broke")
        return Swapped(faces, None)


@dataclass(kw_only=True)
class SameFace:
    """A detector that finds the same face in every picture."""

    faces: list[Face]

    def detect(self, image: Image) -> list[Face]:
        """Return what it was given."""
        return self.faces

    def follow(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """Return what it was given."""
        return self.faces

    def close(self) -> None:
        """Hold nothing."""

    def __enter__(self) -> "SameFace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def drawn() -> list[Image]:
    """Twelve pictures of a drawn person who moves."""
    actor = Actor.of(CAST["ada"])
    moments = perform(3, seconds=4).moments[:: 100 // len(TIMES)]
    return [draw(actor, moment, SIDE_PX).image for moment in moments[: len(TIMES)]]


@pytest.fixture(scope="module")
def face(drawn: Sequence[Image]) -> Face:
    """The face found in the first of them."""
    with LiteRTDetector() as detector:
        return detector.detect(drawn[0])[0]


@pytest.fixture(scope="module")
def clip(drawn: Sequence[Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures as a video with uneven frames and a sound."""
    path = tmp_path_factory.mktemp("clip") / "ada.mp4"
    tone = np.sin(np.arange(24_000) * 0.05)[:, None].astype(np.float32) * 0.3
    _write(path, drawn, sound=Sound(samples=tone, rate_hz=48_000))
    return path


def _write(path: Path, images: Sequence[Image], *, sound: Sound | None = None) -> None:
    """Write pictures at the uneven times."""
    size = (images[0].shape[1], images[0].shape[0])
    with VideoWriter(path, size=size, rate=Fraction(25), time_base=TICK, sound=sound) as writer:
        for image, time in zip(images, TIMES, strict=False):
            writer.write(image, time)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Echo:
    """Make the stage load a model that changes nothing, whatever file it is given."""
    return _loaded(monkeypatch, Echo())


def _loaded(monkeypatch: pytest.MonkeyPatch, model: Echo) -> Echo:
    """Make the stage load `model`."""
    recipe = Recipe(
        backend="echo",
        preset="",
        model=model.model_settings,
        train=model.train_settings,
        sources={},
    )
    trained = TrainedModel(
        model=model.eval(), recipe=recipe, identities=model.identities, images_seen=0
    )
    monkeypatch.setattr(stage, "load_weights", lambda *_: trained)
    return model


def _find(monkeypatch: pytest.MonkeyPatch, faces: list[Face]) -> None:
    """Make the stage find `faces` in every frame, without loading a detector."""
    monkeypatch.setattr(stage, "DETECTORS", {DEFAULT: lambda: SameFace(faces=faces)})


def _convert(video: Path, output: Path, **changes: object) -> stage.ConvertSummary:
    """Run the stage with what every test here uses."""
    arguments = {"weights": Path("any"), "to": None, "device": "cpu", "report": Silent()} | changes
    return convert(video, output=output, **arguments)  # type: ignore[arg-type]


def _swap(network: stage.Network, *, compositor: Compositor | None = None) -> FaceSwap:
    """Return a swap with a network of the test's own."""
    return FaceSwap(
        to="bo",
        size_px=64,
        coverage=0.8,
        network=network,
        compositor=compositor or Compositor(),
    )


def _green(crops: Sequence[Image]) -> list[SwappedFace]:
    """Show everybody as a green square."""
    return [SwappedFace(image=np.full_like(crop, (0, 255, 0)), mask=None) for crop in crops]


def _frames(images: Sequence[Image]) -> Iterator[Frame]:
    """Yield pictures as frames."""
    for index, image in enumerate(images):
        yield Frame(index=index, time=TIMES[index % len(TIMES)], image=image)


def _looked(images: Sequence[Image], faces: Sequence[Face]) -> Iterator[tuple[Frame, list[Face]]]:
    """Yield pictures as frames in which the same faces were found."""
    return ((frame, list(faces)) for frame in _frames(images))


def _packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Return the packets of a video's first stream of that kind, with their times."""
    with av.open(str(path)) as container:
        stream = next(stream for stream in container.streams if stream.type == kind)
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.pts is not None and packet.time_base is not None
        ]


def _psnr(one: AnyArray, other: AnyArray) -> float:
    """Return the peak signal-to-noise ratio, dB."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


# --- the whole stage --------------------------------------------------------------------------


def test_the_video_stays_the_video(clip: Path, tmp_path: Path, model: Echo) -> None:
    """Size, every frame's time and every packet of sound are carried over, and faces are found."""
    output = tmp_path / "exports" / "ada-bo.mp4"
    summary = _convert(clip, output)
    before, after = list(read_frames(clip)), list(read_frames(output))
    assert TIMES == [frame.time for frame in after]
    assert _packets(clip, "audio") == _packets(output, "audio")
    assert probe(clip).size == probe(output).size
    assert probe(clip).colour == probe(output).colour
    assert (12, 12, 0) == (summary.frames, summary.swapped, summary.passed_through)
    assert output == summary.output
    for one, other in zip(before, after, strict=True):
        assert _psnr(one.image, other.image) > 36


def test_the_face_that_the_network_makes_is_in_the_video(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle of the face shows what the network made of it, the corner does not."""

    class Green(Echo):
        def swap(self, faces: Tensor, to: str) -> Swapped:
            return Swapped(torch.tensor([-1.0, 0, -1.0]).view(1, 3, 1, 1).expand_as(faces), None)

    _loaded(monkeypatch, Green())
    _find(monkeypatch, [face])
    output = tmp_path / "green.mp4"
    _convert(clip, output, settings=ConvertSettings(colour="none"))
    for before, after in zip(read_frames(clip), read_frames(output), strict=True):
        x, y = face.landmarks.mean(axis=0).astype(int)
        np.testing.assert_allclose([0, 128, 0], after.image[y, x], atol=12)
        assert _psnr(before.image[:20, :20], after.image[:20, :20]) > 36


def test_a_clip_without_a_face_is_not_written(
    tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No face anywhere: one clear line, and nothing on the disk."""
    video, output = tmp_path / "wall.mp4", tmp_path / "out" / "wall.mp4"
    _write(video, [np.full((96, 128, 3), 90, np.uint8)] * 5)
    _find(monkeypatch, [])
    with pytest.raises(NoFacesError, match=r"there is no face in wall\.mp4"):
        _convert(video, output)
    assert [] == list(output.parent.iterdir())


def test_an_older_output_stays_until_the_new_one_is_whole(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in the network's thread reaches the caller, and leaves the folder as it was."""
    _loaded(monkeypatch, Broken())
    _find(monkeypatch, [face])
    output = tmp_path / "out.mp4"
    output.write_bytes(b"older")
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="the network broke"):
        _convert(clip, output, settings=ConvertSettings(batch_size=2))
    assert b"older" == output.read_bytes()
    assert [output] == list(tmp_path.iterdir())
    assert threads == threading.active_count()


def test_ctrl_c_stops_every_thread_and_leaves_no_file(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption in the middle of the work is passed on when everything has stopped."""

    class Impatient(Silent):
        def advance(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
            if done == 3:
                raise KeyboardInterrupt

    _find(monkeypatch, [face])
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        _convert(clip, tmp_path / "out.mp4", report=Impatient())
    assert [] == list(tmp_path.iterdir())
    assert threads == threading.active_count()


def test_the_model_is_not_loaded_for_an_input_that_is_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing input is told first."""
    monkeypatch.setattr(stage, "load_weights", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match="there is no file"):
        _convert(tmp_path / "no.mp4", tmp_path / "out.mp4")


def test_the_input_is_never_the_output(clip: Path, tmp_path: Path, model: Echo) -> None:
    """Writing over the input is refused, under any of its names."""
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    before = clip.read_bytes()
    for output in (clip, link):
        with pytest.raises(InputError, match="is the video to convert"):
            _convert(clip, output)
    assert before == clip.read_bytes()
    with pytest.raises(InputError, match="is a folder"):
        _convert(clip, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (ConvertSettings(colour="lap"), '"lap"', 'did you mean "lab"?'),
        (ConvertSettings(blend="possion"), '"possion"', 'did you mean "poisson"?'),
        (ConvertSettings(feather=2), "feather 2", "0 to 0.5"),
        (ConvertSettings(shrink=-1), "shrink -1", "-0.5 to 0.5"),
    ],
)
def test_settings_are_checked_before_any_work(
    settings: ConvertSettings, message: str, hint: str, clip: Path, tmp_path: Path
) -> None:
    """A setting that makes no sense is refused with what would."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        _convert(clip, tmp_path / "out.mp4", settings=settings)
    assert hint in caught.value.hint


# --- looking before ---------------------------------------------------------------------------


def test_a_preview_shows_moments_of_the_whole_clip(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sheet: each moment as it is, swapped, and under its mask; two moments a row."""
    _loaded(monkeypatch, Veiled())
    _find(monkeypatch, [face])
    output = tmp_path / "preview.png"
    pictured: list[Path] = []
    report = Silent()
    monkeypatch.setattr(report, "picture", lambda path, _: pictured.append(path))
    arguments = {"weights": Path("any"), "to": None, "device": "cpu", "report": report}
    count = stage.preview(clip, output=output, moments=5, **arguments)  # type: ignore[arg-type]
    assert 5 == count
    assert [output] == pictured
    height, width = pictures.read(output).shape[:2]
    assert 6 * stage.TILE_PX < width < 6.3 * stage.TILE_PX
    assert 3 * stage.TILE_PX < height < 3.4 * stage.TILE_PX


def test_the_tiles_of_a_moment_lie_over_each_other(drawn: Sequence[Image], face: Face) -> None:
    """The swapped tile is the original but for the face, where the third tile is bright."""
    swap = _swap(_green, compositor=Compositor(recolour=None))
    (found,) = swap.found(_looked(drawn[:1], [face]))
    before, after, veiled = (tile.astype(int) for tile in swap.tiles(found))
    middle, corner = (128, 128), (4, 4)
    assert before[corner].tolist() == after[corner].tolist()
    assert [0, 255, 0] == after[middle].tolist()
    assert before[middle].tolist() == veiled[middle].tolist()
    np.testing.assert_allclose(before[corner] * stage.DIMMED / 255, veiled[corner], atol=1)


def test_a_preview_of_nobody_says_so(
    clip: Path, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No face at any of the moments: the same error as converting, and no picture."""
    _find(monkeypatch, [])
    output = tmp_path / "preview.png"
    arguments = {"weights": Path("any"), "to": None, "device": "cpu", "report": Silent()}
    with pytest.raises(NoFacesError, match="there is no face"):
        stage.preview(clip, output=output, moments=5, **arguments)  # type: ignore[arg-type]
    assert not output.exists()


# --- whose face -------------------------------------------------------------------------------


def test_the_last_person_is_put_on_unless_another_is_named() -> None:
    """`to` chooses; a name the model does not know is refused with a proposal."""
    people = ("ada", "bo", "cy")
    assert "cy" == stage.chosen_person(people, None)
    assert "ada" == stage.chosen_person(people, "ada")
    with pytest.raises(ConfigurationError, match='does not know "adda"') as caught:
        stage.chosen_person(people, "adda")
    assert 'did you mean "ada"?' == caught.value.hint


def test_a_clip_of_one_person_gets_the_face_of_the_other(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The set extracted from a clip, under whatever name, tells whom it shows: not that face."""
    workspace = Workspace.open(tmp_path / "workspace")
    extract(clip, folder=workspace.set("bo"), settings=ExtractSettings(), report=Silent())
    again = tmp_path / "renamed.mp4"
    again.write_bytes(clip.read_bytes())
    assert frozenset({"bo"}) == stage.people_shown(again, workspace)
    assert "ada" == stage.chosen_person(model.identities, None, shown=frozenset({"bo"}))
    assert "bo" == stage.chosen_person(model.identities, None, shown=frozenset({"bo", "ada"}))
    assert "bo" == stage.chosen_person(model.identities, "bo", shown=frozenset({"bo"}))
    titles: list[str] = []
    report = Silent()
    monkeypatch.setattr(report, "stage", lambda title, **_: titles.append(title))
    _find(monkeypatch, [face])
    _convert(again, tmp_path / "out.mp4", workspace=workspace, report=report)
    assert ["convert renamed.mp4 to ada"] == titles


def test_a_set_whose_source_is_unreadable_shows_nobody(clip: Path, tmp_path: Path) -> None:
    """A damaged line about one set does not keep a video from being converted."""
    workspace = Workspace.open(tmp_path)
    folder = workspace.set("torn")
    write_text(folder.records, "")
    for text in ("[input", "", "input = 3", "[input]\nbytes = 1"):
        write_text(folder.source, text)
        assert frozenset() == stage.people_shown(clip, workspace)


# --- from frames to frames --------------------------------------------------------------------


def test_frames_without_a_face_pass_through_untouched(drawn: Sequence[Image]) -> None:
    """Where nothing is found the very same picture comes out."""
    swap = _swap(_green)
    found = swap.found(_looked(drawn, []))
    for image, finished in zip(drawn, swap.finished(found, batch=4), strict=True):
        assert image is finished.image
        assert 0 == finished.swapped


def test_the_largest_face_is_the_one_replaced(drawn: Sequence[Image], face: Face) -> None:
    """Of several people in a picture the nearest gets the other face."""
    smaller = replace(face, landmarks=face.landmarks * 0.5)
    (found,) = _swap(_green).found(_looked(drawn[:1], [face, smaller]))
    (target,) = found.targets
    assert (
        target.alignment.side_px > 1.5 * _swap(_green).target(drawn[0], smaller).alignment.side_px
    )


def test_nothing_changes_outside_of_the_networks_square(drawn: Sequence[Image], face: Face) -> None:
    """Every pixel beyond the square that the network sees is that of the source, to the byte."""
    swap = _swap(_green)
    found = list(swap.found(_looked(drawn, [face])))
    alignment = found[0].targets[0].alignment
    across, down = np.meshgrid(np.arange(SIDE_PX), np.arange(SIDE_PX))
    matrix = alignment.to_unit
    unit = np.stack([across, down], axis=2) @ matrix[:, :2].T + matrix[:, 2]
    outside = np.any((unit < 0) | (unit > 1), axis=2)
    for image, finished in zip(drawn, swap.finished(iter(found), batch=4), strict=True):
        np.testing.assert_array_equal(image[outside], finished.image[outside])
        assert np.any(image != finished.image)
        assert 1 == finished.swapped


@dataclass(kw_only=True)
class Scripted:
    """A detector that finds and follows what a script says, and notes what it was asked."""

    there: list[list[Face]]
    """The faces in each frame; what is followed is found in place, one px to the right."""
    asked: list[str]

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold nothing."""

    def detect(self, image: Image) -> list[Face]:
        """Return the faces of the frame."""
        self.asked.append("detect")
        return self.there[int(image[0, 0, 0])]

    def follow(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """Return the faces that are still in the frame, moved a little."""
        self.asked.append("follow")
        names = {face.score for face in self.there[int(image[0, 0, 0])]}
        return [replace(face, box=face.box + 1) for face in faces if face.score in names]


def test_a_face_is_followed_until_it_is_gone(face: Face) -> None:
    """Faces are looked for at the start, when none is left, and every so many frames."""
    script = [[face]] * 5 + [[]] * 2 + [[face]] * 20
    images = [np.full((8, 8, 3), index, np.uint8) for index in range(len(script))]
    detector = Scripted(there=script, asked=[])
    looked = list(stage.followed(_frames(images), detector))
    assert [len(faces) for faces in script] == [len(faces) for _, faces in looked]
    expected = ["detect", *["follow"] * 5, "detect", "detect", "detect"]
    assert expected == detector.asked[:9]
    again = [number for number in range(8, len(script)) if number % stage.LOOK_AGAIN == 0]
    assert len(again) == detector.asked[9:].count("detect")


@pytest.mark.parametrize(("growth", "changes"), [(1.1, False), (1.5, True)])
def test_the_same_person_is_replaced_until_another_is_much_nearer(
    face: Face, growth: float, changes: bool
) -> None:
    """Somebody of like size who joins changes nothing; somebody in front is seen soon."""
    newcomer = replace(face, box=face.box * growth, score=0.7)
    script = [[face]] * 3 + [[newcomer, face]] * 20
    images = [np.full((8, 8, 3), index, np.uint8) for index in range(len(script))]
    looked = list(stage.followed(_frames(images), Scripted(there=script, asked=[])))
    scores = [[found.score for found in faces] for _, faces in looked]
    before, after = scores[: stage.LOOK_AGAIN], scores[stage.LOOK_AGAIN :]
    assert [[face.score]] * stage.LOOK_AGAIN == before
    assert [[0.7 if changes else face.score]] * len(after) == after
    if not changes:
        moved = looked[stage.LOOK_AGAIN][1][0].box - face.box
        np.testing.assert_array_equal(stage.LOOK_AGAIN, moved)


def test_the_size_of_the_batch_changes_nothing(drawn: Sequence[Image], face: Face) -> None:
    """Frames come out in order and alike, however many the network sees at a time."""
    swap = _swap(_green)
    everyone = [face, replace(face, landmarks=face.landmarks * 0.5)]

    def finished(batch: int) -> list[stage.Finished]:
        targets = [[everyone[:1], [], everyone][index % 3] for index in range(len(drawn))]
        found = (
            stage.Found(frame=frame, targets=[swap.target(frame.image, face) for face in faces])
            for frame, faces in zip(_frames(drawn), targets, strict=True)
        )
        return list(swap.finished(found, batch=batch))

    one_by_one = finished(1)
    assert [1, 0, 2] * 4 == [frame.swapped for frame in one_by_one]
    for one, other in zip(one_by_one, finished(5), strict=True):
        assert one.time == other.time
        np.testing.assert_array_equal(one.image, other.image)


def test_a_mask_that_the_model_learned_limits_the_face(
    drawn: Sequence[Image], face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the model says there is no face, none is shown."""
    _loaded(monkeypatch, Veiled())
    swap = FaceSwap.prepare(Path("any"), to="bo", device="cpu", settings=ConvertSettings())
    found = swap.found(_looked(drawn, [face]))
    for image, finished in zip(drawn, swap.finished(found, batch=4), strict=True):
        np.testing.assert_array_equal(image, finished.image)


def test_images_go_to_torch_and_back_unchanged() -> None:
    """All 256 levels survive the two doors, and the range is [-1, 1]."""
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = stage.to_tensor([levels, levels])
    assert (2, 3, 16, 16) == tuple(tensor.shape)
    assert (-1.0, 1.0) == (tensor.min().item(), tensor.max().item())
    for image in stage.to_images(tensor):
        np.testing.assert_array_equal(levels, image)


@pytest.mark.parametrize("backend", registry.names())
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_every_backend_runs_in_every_precision(backend: str, autocast: torch.dtype | None) -> None:
    """Lower precision changes a face by a few levels at most, whatever the networks are."""
    recipe = resolve(backend, "debug", [])
    torch.manual_seed(0)
    people = ("ada", "bo")
    model = registry.load(backend)(recipe.model, recipe.train, people).eval()
    hardware = replace(find_hardware("cpu"), autocast=autocast)
    side = recipe.model.size_px
    crops = list(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = stage.to_images(model.swap(stage.to_tensor(crops), "bo").image)
    faces = stage.network_of(model, hardware, to="bo")(crops)
    for image, face in zip(expected, faces, strict=True):
        np.testing.assert_allclose(image, face.image, atol=4 if autocast else 0)


def test_very_large_frames_go_in_small_batches(clip: Path) -> None:
    """The memory of the frames on their way is bounded; a batch is never empty."""
    info = probe(clip)
    assert 16 == stage.batch_size(info, wanted=16)
    assert 7 == stage.batch_size(replace(info, size=(3840, 2160)), wanted=16)
    assert 1 == stage.batch_size(replace(info, size=(32768, 32768)), wanted=16)
