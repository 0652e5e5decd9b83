"""Convert: the source is preserved, and only its faces are swapped."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from fake_models import Echo, use_model
from fakes import RecordingReporter, remux, write_damaged_clip
from PIL import Image as Pillow
from torch import Tensor

from faceswap_cli.conversion import analysis
from faceswap_cli.conversion import model as loading
from faceswap_cli.conversion.output import Output, default_output_name, parts_folder
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core import image_io
from faceswap_cli.core.config import resolve
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, InputError, NoFacesError
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.lock import output_lock
from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.occlusion import VisibleFaceModel
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import Face
from faceswap_cli.provenance.credentials import read_credentials as read_credentials
from faceswap_cli.provenance.sidecar import read_sidecar, sidecar_path
from faceswap_cli.stages import convert as stage
from faceswap_cli.stages import preview as preview_stage
from faceswap_cli.stages.extract import extract
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.training import checkpoint
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.source import ImageSequence, VideoSource, find_sources
from faceswap_cli.video.writer import AudioTrack, VideoWriter
from faceswap_models import registry
from faceswap_models.base import SwapOutput

SIDE_PX = 160
TICK = Fraction(1, 1000)
TIMES = [Fraction(ms, 1000) for ms in (0, 40, 80, 133, 160, 200, 230, 280, 320, 351, 400, 440)]
"""Uneven frame times, as phones record."""
TINTS = {"ada": (0, 160, 0), "bo": (0, 0, 160)}
"""Color of each identity for the model that paints."""


class Painter(Echo):
    """A model that fills every crop with the identity's color."""

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return images of one color."""
        tint = torch.tensor(TINTS[identity]) / 127.5 - 1
        return SwapOutput(tint.view(1, 3, 1, 1).expand_as(faces), None)


class Broken(Echo):
    """A model that fails at its second batch."""

    batches = 0

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return the faces once."""
        self.batches += 1
        if self.batches > 1:
            raise RuntimeError("the network broke")
        return SwapOutput(faces, None)


@dataclass(kw_only=True)
class ScriptedDetector:
    """A detector that returns the faces that a script gives for an image."""

    script: Callable[[Image], list[Face]]

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the script's faces, excluded or not."""
        return self.script(image)

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the script's faces close to the tracked ones."""
        now = self.script(view.to_array())
        return [face for face in now if any(abs(face.box - one.box).max() < 9 for one in faces)]

    def close(self) -> None:
        """Release nothing."""

    def __enter__(self) -> "ScriptedDetector":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Twelve images of a moving synthetic face."""
    return _render_images("ada")


def _render_images(name: str, *, seed: int = 3) -> list[Image]:
    """Return twelve images of a moving synthetic face."""
    actor = HeadModel.from_person(CAST[name])
    scenes = animate(seed, seconds=4).scenes[:: 100 // len(TIMES)]
    return [render_frame(actor, scene, SIDE_PX).image for scene in scenes[: len(TIMES)]]


@pytest.fixture(scope="module")
def face(images: Sequence[Image]) -> Face:
    """The face detected in the first of them."""
    with LiteRTDetector() as detector:
        return detector.detect(images[0])[0]


@pytest.fixture(scope="module")
def clip(images: Sequence[Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images as a video with uneven frame times and audio."""
    path = tmp_path_factory.mktemp("clip") / "ada.mp4"
    tone = np.sin(np.arange(24_000) * 0.05)[:, None].astype(np.float32) * 0.3
    _write_video(path, images, sound=AudioTrack(samples=tone, rate_hz=48_000))
    return path


def _write_video(
    path: Path,
    images: Sequence[Image],
    *,
    sound: AudioTrack | None = None,
    times: Sequence[Fraction] = TIMES,
) -> Path:
    """Write images as a video, by default at uneven times."""
    size = (images[0].shape[1], images[0].shape[0])
    with VideoWriter(path, size=size, rate=Fraction(25), time_base=TICK, audio=sound) as writer:
        for image, time in zip(images, times, strict=False):
            writer.write(image, time)
    return path


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Echo:
    """Make the stage load a model that changes nothing, whatever file it is given."""
    return use_model(monkeypatch, Echo())


def _extract_and_forbid_detection(
    monkeypatch: pytest.MonkeyPatch, video: Path, workspace: Workspace
) -> None:
    """Make a set of a video's faces, and let no face be detected afterwards."""
    folder = workspace.set_folder("bo")
    extract(video, folder=folder, settings=ExtractSettings(), report=Reporter())
    monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {})


def _use_detector(monkeypatch: pytest.MonkeyPatch, script: Callable[[Image], list[Face]]) -> None:
    """Make the stages detect the script's faces, without loading a detector."""
    for module, name in ((analysis, "LOCATION_DETECTORS"), (preview_stage, "DETECTORS")):
        monkeypatch.setattr(
            module, name, {DEFAULT_DETECTOR: lambda: ScriptedDetector(script=script)}
        )


@pytest.fixture(autouse=True)
def _weights(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file in place of weights."""
    path = tmp_path_factory.mktemp("weights") / "any.safetensors"
    path.write_bytes(b"weights")
    global WEIGHTS
    WEIGHTS = path


WEIGHTS = Path("any")


def _convert(video: Path, output: Path, **changes: object) -> stage.ConvertSummary:
    """Run the stage with the arguments that all tests share."""
    arguments = {
        "weights": WEIGHTS,
        "to": None,
        "device": "cpu",
        "report": Reporter(),
    } | changes
    return stage.convert(video, output=output, **arguments)  # type: ignore[arg-type]


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


def _painted_identity(image: Image, face: Face) -> str | None:
    """Return the identity whose color a face has, or None."""
    x, y = face.landmarks[[1, 4, 5]].mean(axis=0).astype(int)
    near = {name: abs(image[y, x].astype(int) - tint).max() for name, tint in TINTS.items()}
    name = min(near, key=lambda one: near[one])
    return name if near[name] < 40 else None


PLAIN = ConvertSettings(
    mask="both", color="none", match_blur=False, match_grain=False, quality=8, hwaccel=False
)
"""The model's own pixels, without postprocessing. Many frames here show no face, which the default
mask would leave as they are."""


# --- the whole stage --------------------------------------------------------------------------


@pytest.mark.slow
def test_video_timing_and_audio_are_preserved(clip: Path, tmp_path: Path, model: Echo) -> None:
    """Size, every frame's time and every packet of sound are carried over, and faces are found."""
    output = tmp_path / "exports" / "ada-bo.mp4"
    summary = _convert(clip, output)
    before, after = list(read_frames(clip)), list(read_frames(output))
    assert TIMES == [frame.time for frame in after]
    assert _packets(clip, "audio") == _packets(output, "audio")
    assert probe(clip).size == probe(output).size
    assert probe(clip).color == probe(output).color
    assert (12, 12, 0) == (summary.frames, summary.swapped, summary.passed_through)
    assert output == summary.output
    assert not parts_folder(output).exists()
    for one, other in zip(before, after, strict=True):
        assert _psnr(one.image, other.image) > 34


def test_the_swapped_face_is_in_the_video(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle of the face shows the model's output, the corner does not."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "green.mp4"
    _convert(clip, output, to="ada", settings=PLAIN)
    for before, after in zip(read_frames(clip), read_frames(output), strict=True):
        assert "ada" == _painted_identity(after.image, face)
        assert _psnr(before.image[:20, :20], after.image[:20, :20]) > 36


def test_a_clip_without_a_face_is_not_written(
    tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a face there is an error and nothing on the disk, not even the output's folder."""
    video = _write_video(tmp_path / "wall.mp4", [np.full((96, 128, 3), 90, np.uint8)] * 5)
    _use_detector(monkeypatch, lambda _: [])
    with pytest.raises(NoFacesError, match=r"there is no face in wall\.mp4"):
        _convert(video, tmp_path / "out" / "wall.mp4")
    assert not (tmp_path / "out").exists()


def test_an_older_output_stays_until_the_new_one_is_finished(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the model's thread is raised in the caller, and the older file stays."""
    use_model(monkeypatch, Broken())
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "out.mp4"
    output.write_bytes(b"older")
    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="the network broke"):
        _convert(clip, output, settings=replace(PLAIN, batch_size=2))
    assert b"older" == output.read_bytes()
    assert threads == threading.active_count()


def test_ctrl_c_stops_every_thread_and_leaves_no_file(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption is raised after all threads have stopped."""

    class Impatient(Reporter):
        def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
            if done == 3 and numbers and "fps" in numbers:
                raise KeyboardInterrupt

    _use_detector(monkeypatch, lambda _: [face])
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        _convert(clip, tmp_path / "out.mp4", report=Impatient())
    assert not (tmp_path / "out.mp4").exists()
    assert threads == threading.active_count()


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_an_output_is_made_by_one_process_at_a_time(
    name: str,
    clip: Path,
    images: Sequence[Image],
    face: Face,
    tmp_path: Path,
    model: Echo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second conversion to an output is refused at once, and the first one finishes whole.

    They had deleted each other's parts: one ended in an AssertionError, the other in "no such
    file", and no video was left.
    """
    _use_detector(monkeypatch, lambda _: [face])
    source, output = clip, tmp_path / "exports" / name
    if not output.suffix:
        source = tmp_path / "album"
        for index, image in enumerate(images):
            image_io.write_png(source / f"{index:02}.png", image)
    refused: list[InputError] = []

    class Second(Reporter):
        def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
            if done in (1, 5):  # while finding faces, then while encoding
                with pytest.raises(InputError, match="is being written by process") as caught:
                    _convert(source, output)
                refused.append(caught.value)

    assert len(TIMES) == _convert(source, output, report=Second()).frames
    assert 4 == len(refused)
    assert (3, str(output)) == (refused[0].exit_code, refused[0].message.split()[0])
    assert "--output" in refused[0].hint
    made = list(output.iterdir()) if output.is_dir() else list(read_frames(output))
    assert len(TIMES) == len(made)
    left = {path.name for path in output.parent.iterdir()}
    assert left <= {name, sidecar_path(output).name}


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["x" * 240, "\u00e9" * 125, "x" * 251])
def test_a_source_and_an_output_can_have_the_longest_names(
    stem: str, clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts, the lock, the temporary files and the sidecar have names that fit.

    A name of 244 bytes had ended in a traceback, since `.parts` was added to it.
    """
    _use_detector(monkeypatch, lambda _: [face])
    source = tmp_path / f"{stem}.mp4"
    source.write_bytes(clip.read_bytes())
    default = tmp_path / "exports" / default_output_name(VideoSource.open(source))
    expected = set()
    for output in (default, default.with_name(f"{stem}.mkv")):
        assert len(TIMES) == _convert(source, output).frames
        sidecar = read_sidecar(output)
        assert sidecar is not None
        assert sidecar.matches
        expected |= {output, sidecar.path}
    assert expected == set(default.parent.iterdir())


def test_a_preview_is_written_by_one_process_at_a_time(clip: Path, tmp_path: Path) -> None:
    """Both kinds of preview are refused while another process writes the image."""
    image = tmp_path / "preview.png"
    arguments = _preview_arguments() | {"output": image}
    with output_lock(image):
        for preview in (partial(preview_stage.preview, count=2), preview_stage.compare_settings):
            with pytest.raises(InputError, match=r"preview\.png is being written by process"):
                preview(clip, **arguments)  # type: ignore[operator]


# --- time -------------------------------------------------------------------------------------


def _numbered_images(count: int, *, side: int = 64) -> list[Image]:
    """Return images in color whose level encodes their index."""
    color = np.array([9, 0, -9])
    return [np.full((side, side, 3), 20 + 4 * index + color, np.uint8) for index in range(count)]


def _image_number(image: Image) -> int:
    """Return the index that an image's level encodes."""
    return round((float(image.mean()) - 20) / 4)


def _face_at(face: Face, x: float, *, side: int = 64) -> Face:
    """Return a face scaled and moved to be centered at (x, side / 2), `side` / 2 high."""
    low, high = face.landmarks.min(axis=0), face.landmarks.max(axis=0)
    scale = side / 2 / float((high - low)[1])
    landmarks = (face.landmarks - (low + high) / 2) * scale + np.float32([x, side / 2])
    box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
    return replace(face, landmarks=landmarks.astype(np.float32), box=box.astype(np.float32))


def _swapped_frames(source: Path, output: Path) -> list[bool]:
    """Return whether the middle of each frame changed."""
    return [
        bool(abs(one.image[32, 32].astype(int) - other.image[32, 32]).max() > 30)
        for one, other in zip(read_frames(source), read_frames(output), strict=True)
    ]


def test_a_clip_in_black_and_white_stays_so(
    images: Sequence[Image], face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The colors of the swapped face do not tint it: in the file, channels are 2 apart at most.

    They were 25 apart in a clip that FFmpeg's `hue=s=0` had made, and up to 163 here.
    """
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    gray = [
        np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
        for image in images[:3]
    ]
    video = _write_video(tmp_path / "in.mp4", gray)
    for color in ("mkl", "none"):
        _convert(video, tmp_path / "out.mp4", settings=replace(PLAIN, color=color))
        for before, after in zip(
            read_frames(video), read_frames(tmp_path / "out.mp4"), strict=True
        ):
            assert np.ptp(before.image.astype(int), axis=2).max() <= 2
            assert np.ptp(after.image.astype(int), axis=2).max() <= 2
            assert np.abs(before.image.astype(int) - after.image).max() > 30


@pytest.mark.slow
def test_short_gaps_are_interpolated(
    face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face missed in a few frames is interpolated; one absent for long is not."""
    use_model(monkeypatch, Painter())
    missed, gone = {6, 7, 13}, set(range(20, 34))
    here = _face_at(face, 32)
    _use_detector(
        monkeypatch, lambda image: [] if _image_number(image) in missed | gone else [here]
    )
    video = _write_video(
        tmp_path / "in.mp4",
        _numbered_images(44),
        times=[Fraction(index, 25) for index in range(44)],
    )
    _convert(video, tmp_path / "out.mp4", settings=PLAIN)
    expected = [number not in gone for number in range(44)]
    assert expected == _swapped_frames(video, tmp_path / "out.mp4")


# --- resuming ---------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np
import pytest
import test_convert as convert_tests
monkeypatch = pytest.MonkeyPatch()
convert_tests.use_model(monkeypatch, convert_tests.Painter())
convert_tests._use_detector(monkeypatch, convert_tests.drifting_face(np.load({landmarks!r})))
class Deadly(convert_tests.Reporter):
    def start_task(self, title, **_):
        self.title = title
    def update(self, done, numbers=None):
        if self.title.startswith({title!r}) and done >= {at}:
            os.kill(os.getpid(), signal.SIGKILL)
convert_tests.WEIGHTS = Path({weights!r})
settings = convert_tests.replace(convert_tests.PLAIN, color={color!r}, quality=0)
convert_tests._convert(Path({video!r}), Path({output!r}), settings=settings, report=Deadly())
"""


def drifting_face(landmarks: AnyArray) -> Callable[[Image], list[Face]]:
    """Return a script that moves a face with the image's brightness."""

    def script(image: Image) -> list[Face]:
        points = landmarks + np.float32([float(image[:8].mean()) / 16, 0])
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
        return [Face(box=box, landmarks=points, score=1, blendshapes=(0.0,) * 52, pose=(0, 0, 0))]

    return script


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of more than one segment, small to be quick."""
    rng = np.random.default_rng(0)
    waves = [np.uint8(90 + 60 * np.sin(index / 9)) for index in range(300)]
    images = [rng.integers(0, 40, (64, 64, 3), dtype=np.uint8) + wave for wave in waves]
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return _write_video(path, images, times=[Fraction(index, 25) for index in range(300)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "at", "color", "reused"),
    [("find", 270, "none", 0), ("convert", 260, "none", 240), ("convert", 260, "lab", 0)],
    ids=["while finding faces", "while encoding", "with other settings"],
)
def test_a_killed_conversion_resumes_to_the_same_frames(
    title: str,
    at: int,
    color: str,
    reused: int,
    long_clip: Path,
    face: Face,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After kill -9 the same command writes the same frames as a run that was not killed.

    Frames of other settings are not reused. Encoded losslessly, since an encoder may choose
    differently from run to run.
    """
    landmarks, output = tmp_path / "face.npy", tmp_path / "out.mp4"
    np.save(landmarks, _face_at(face, 24).landmarks)
    code = KILLED.format(
        tests=str(Path(__file__).parent),
        landmarks=str(landmarks),
        title=title,
        at=at,
        color=color,
        weights=str(WEIGHTS),
        video=str(long_clip),
        output=str(output),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert -signal.SIGKILL == done.returncode, done.stderr
    assert not output.exists()
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, drifting_face(np.load(landmarks)))
    notes: list[str] = []
    report = Reporter()
    monkeypatch.setattr(report, "note", notes.append)
    exact = replace(PLAIN, quality=0)
    summary = _convert(long_clip, output, settings=exact, report=report)
    assert (300, 300) == (summary.frames, summary.swapped)
    assert (f"resuming after {reused} finished frames" in notes) == bool(reused)
    _convert(long_clip, tmp_path / "whole.mp4", settings=exact)
    for one, other in zip(read_frames(tmp_path / "whole.mp4"), read_frames(output), strict=True):
        assert one.time == other.time
        np.testing.assert_array_equal(one.image, other.image)


# --- assignments ------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_identities_are_swapped_with_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is recognized by a photo and gets the other's face, before and after a cut."""
    use_model(monkeypatch, Painter())
    ada, bo = _render_images("ada"), _render_images("bo", seed=5)
    left = [np.concatenate(pair, axis=1) for pair in zip(ada, bo, strict=True)]
    right = [np.concatenate(pair, axis=1) for pair in zip(bo, ada, strict=True)]
    video = _write_video(tmp_path / "both.mp4", [*left[:6], *right[6:]])
    for name, images in (("ada", ada), ("bo", bo)):
        image_io.write_png(tmp_path / f"{name}.png", images[0])
    faces = (f"match:{tmp_path}/ada.png=bo", f"match:{tmp_path}/bo.png=ada")
    _convert(video, tmp_path / "out.mp4", settings=replace(PLAIN, faces=faces))
    with LiteRTDetector() as detector:
        for index, (before, after) in enumerate(
            zip(read_frames(video), read_frames(tmp_path / "out.mp4"), strict=True)
        ):
            found = sorted(detector.detect(before.image), key=lambda one: float(one.box[0]))
            expected = ["bo", "ada"] if index < 6 else ["ada", "bo"]
            assert expected == [_painted_identity(after.image, one) for one in found]


def test_a_missing_track_is_reported(clip: Path, tmp_path: Path, model: Echo) -> None:
    """The error names the tracks that exist, and nothing is left on the disk."""
    with pytest.raises(NoFacesError, match=r"no face in ada\.mp4 .* track:7") as caught:
        _convert(clip, tmp_path / "out.mp4", settings=ConvertSettings(faces=("track:7",)))
    assert "its tracks are 0 to 0" in caught.value.hint
    assert [] == list(tmp_path.iterdir())


@pytest.mark.slow
def test_faces_are_reused_from_an_extracted_set(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is detected again, and faces with deleted crops are not swapped."""
    use_model(monkeypatch, Painter())
    workspace = Workspace.open(tmp_path / "workspace")
    folder = workspace.set_folder("bo")
    extract(clip, folder=folder, settings=ExtractSettings(), report=Reporter())
    deleted = sorted(folder.root.glob("*.png"))[4:7]
    for path in deleted:
        path.unlink()
    aside = sorted(folder.root.glob("*.png"))[0]
    folder.rejected.mkdir()
    aside.rename(folder.rejected / aside.name)
    monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {})
    again = tmp_path / "renamed.mp4"
    again.write_bytes(clip.read_bytes())
    summary = _convert(again, tmp_path / "out.mp4", workspace=workspace, settings=PLAIN)
    assert (12, 9) == (summary.frames, summary.swapped)
    with LiteRTDetector() as detector:
        frames = zip(read_frames(clip), read_frames(tmp_path / "out.mp4"), strict=True)
        tints = [
            _painted_identity(after.image, detector.detect(before.image)[0])
            for before, after in frames
        ]
    assert ["ada"] * 4 + [None] * 3 + ["ada"] * 5 == tints


@pytest.mark.slow
@pytest.mark.parametrize("first_pass", ["fresh", "from a set", "stopped"])
def test_a_damaged_source_is_reported_and_counted(
    first_pass: str,
    images: Sequence[Image],
    face: Face,
    tmp_path: Path,
    model: Echo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames 13 to 17 of 40 are lost: said once, and counted by a run that resumes after them."""
    video = write_damaged_clip(tmp_path / "bad.mkv", [images[0]] * 40, damaged=13)
    workspace = Workspace.open(tmp_path / "workspace")
    if first_pass == "from a set":
        _extract_and_forbid_detection(monkeypatch, video, workspace)
    else:
        _use_detector(monkeypatch, lambda _: [face])
    if first_pass == "stopped":
        with monkeypatch.context() as broken:
            broken.setattr(Output, "finalize", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                _convert(video, tmp_path / "out.mkv", settings=PLAIN)
    notes: list[str] = []
    report = Reporter()
    monkeypatch.setattr(report, "note", notes.append)

    summary = _convert(
        video, tmp_path / "out.mkv", workspace=workspace, report=report, settings=PLAIN
    )

    assert (35, 5, 0.2) == (summary.frames, summary.missing_frames, summary.missing_seconds)
    assert ("resuming after 35 finished frames" in notes) == (first_pass == "stopped")
    assert 1 == notes.count("bad.mkv is damaged: 0.20 s (5 frames) are missing, at 0.52-0.72 s")


@pytest.mark.parametrize("first_pass", ["fresh", "from a set", "finished earlier"])
def test_a_truncated_source_is_reported_once(
    first_pass: str,
    images: Sequence[Image],
    face: Face,
    tmp_path: Path,
    model: Echo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is missing is said once, whether or not the first pass reads the file."""
    video, output = tmp_path / "cut.mkv", tmp_path / "out.mkv"
    data = _write_video(video, images).read_bytes()
    video.write_bytes(data[: len(data) * 7 // 10])
    workspace = Workspace.open(tmp_path / "workspace")
    if first_pass == "from a set":
        _extract_and_forbid_detection(monkeypatch, video, workspace)
    else:
        _use_detector(monkeypatch, lambda _: [face])
    if first_pass == "finished earlier":
        with monkeypatch.context() as broken:
            broken.setattr(stage, "_build_claim", lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                _convert(video, output, settings=PLAIN)
        monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {})
    notes: list[str] = []
    report = Reporter()
    monkeypatch.setattr(report, "note", notes.append)

    _convert(video, output, workspace=workspace, report=report, settings=PLAIN)

    assert 1 == len([text for text in notes if text.startswith("cut.mkv ends after")])
    assert any("the faces are" in text for text in notes) == (first_pass != "fresh")


@pytest.mark.parametrize(
    ("mask", "covered", "is_told"),
    [("both", 0.5, True), ("visible", 0.5, False), ("both", 0.05, False)],
)
def test_covered_faces_are_told_where_the_mask_swaps_what_is_in_front(
    mask: str,
    covered: float,
    is_told: bool,
    images: Sequence[Image],
    tmp_path: Path,
    model: Echo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A set that was extracted from the clip says how much of each face is covered."""
    video = _write_video(tmp_path / "clip.mp4", images)
    workspace = Workspace.open(tmp_path / "workspace")
    monkeypatch.setattr(VisibleFaceModel, "measure_covered", lambda *_: covered)
    _extract_and_forbid_detection(monkeypatch, video, workspace)
    notes: list[str] = []
    report = Reporter()
    monkeypatch.setattr(report, "note", notes.append)
    settings = replace(PLAIN, mask=mask)
    _convert(video, tmp_path / "out.mp4", workspace=workspace, report=report, settings=settings)
    told = f"something is in front of {len(images)} faces: --mask visible leaves it there"
    assert is_told == (told in notes)


# --- kinds of output --------------------------------------------------------------------------


def test_a_trimmed_output_starts_at_zero(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the frames from start to end are written, with their spacing and audio."""
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "part.mp4"
    summary = _convert(clip, output, settings=replace(PLAIN, start_s=0.13, end_s=0.4))
    assert [time - TIMES[3] for time in TIMES[3:10]] == [one.time for one in read_frames(output)]
    assert (7, 7) == (summary.frames, summary.swapped)
    assert _packets(output, "audio")


@pytest.mark.slow
def test_a_recording_of_a_broadcast_is_trimmed_from_its_first_frame(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start and end select the same frames if the file's time stamps begin at ten hours."""
    _use_detector(monkeypatch, lambda _: [face])
    late, output = remux(clip, tmp_path / "late.ts", start_s=36_000), tmp_path / "part.mp4"
    summary = _convert(late, output, settings=replace(PLAIN, start_s=0.13, end_s=0.4))
    assert [time - TIMES[3] for time in TIMES[3:10]] == [one.time for one in read_frames(output)]
    assert (7, 7) == (summary.frames, summary.swapped)
    settings = replace(PLAIN, start_s=0.13)
    count = preview_stage.preview(
        late,
        weights=WEIGHTS,
        to=None,
        output=tmp_path / "preview.png",
        count=4,
        device="cpu",
        report=Reporter(),
        settings=settings,
    )
    assert 4 == count
    whole = _convert(late, tmp_path / "whole.mp4")
    assert len(TIMES) == whole.frames
    assert len(TIMES) == len(list(read_frames(tmp_path / "whole.mp4")))


def test_side_by_side_shows_the_original_on_the_left(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is twice as wide, with the original on the left and the swap on the right."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "both.mp4"
    _convert(clip, output, settings=replace(PLAIN, side_by_side=True))
    for before, after in zip(read_frames(clip), read_frames(output), strict=True):
        assert (SIDE_PX, 2 * SIDE_PX, 3) == after.image.shape
        assert _psnr(before.image, after.image[:, :SIDE_PX]) > 34
        assert "bo" == _painted_identity(after.image[:, SIDE_PX:], face)


def test_images_become_images(
    images: Sequence[Image], face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder becomes a folder of the same names; images without a face are copied."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda image: [] if image.shape[0] < 100 else [face])
    album = tmp_path / "album"
    album.mkdir()
    image_io.write_png(album / "a.png", images[0])
    image_io.write_png(album / "b.png", np.full((80, 90, 3), 77, np.uint8))
    summary = _convert(album, tmp_path / "out", settings=PLAIN)
    assert (2, 1) == (summary.frames, summary.swapped)
    assert ["a.png", "b.png"] == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (album / "b.png").read_bytes() == (tmp_path / "out" / "b.png").read_bytes()
    made = image_io.read_image(tmp_path / "out" / "a.png")
    assert "bo" == _painted_identity(made, face)
    np.testing.assert_array_equal(images[0][:16], made[:16])
    _convert(album / "a.png", tmp_path / "one.png", settings=PLAIN)
    np.testing.assert_array_equal(made, image_io.read_image(tmp_path / "one.png"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.mp4", "a-swapped.mp4"),
        ("a.MKV", "a-swapped.mkv"),
        ("a.avi", "a-swapped.mp4"),
        ("a.png", "a-swapped.mp4"),
    ],
)
def test_default_output_name_keeps_the_container(clip: Path, name: str, expected: str) -> None:
    """The default name has the video's suffix if a video can be written to it."""
    video = replace(VideoSource.open(clip), path=Path("clips", name))
    assert expected == default_output_name(video)


def test_default_output_name_of_images_is_that_of_their_folder(tmp_path: Path) -> None:
    """One image named by itself becomes an image; a pattern gives no name with a star."""
    album = tmp_path / "album"
    for name in ("A/1.WebP", "B/2.webp"):
        (album / name).parent.mkdir(parents=True)
        image_io.write_png(album / name, np.zeros((4, 4, 3), np.uint8))
    for path, expected in (
        (album / "A", "A-swapped"),
        (album / "A" / "1.WebP", "1-swapped.webp"),
        (album / "*" / "*.[Ww]*", "album-swapped"),
    ):
        (source,) = find_sources([path])
        assert isinstance(source, ImageSequence)
        assert expected == default_output_name(source)


@pytest.mark.parametrize("suffix", [".png", ".avif", ".gif"])
def test_an_animated_image_becomes_a_video(
    images: Sequence[Image],
    face: Face,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    """Every frame is swapped, at its time, and nothing is reported as lost."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    first, *others = (Pillow.fromarray(image) for image in images[:4])
    path = tmp_path / f"wave{suffix}"
    first.save(path, save_all=True, append_images=others, duration=80)
    report = RecordingReporter()
    summary = _convert(path, tmp_path / "out.mp4", settings=PLAIN, report=report)
    assert (4, 4) == (summary.frames, summary.swapped)
    frames = list(read_frames(tmp_path / "out.mp4"))
    assert [index * Fraction(2, 25) for index in range(4)] == [frame.time for frame in frames]
    assert ["bo"] * 4 == [_painted_identity(frame.image, face) for frame in frames]
    assert probe(path).size == probe(tmp_path / "out.mp4").size
    assert [] == [note for note in report.notes if "consent" not in note]


def test_images_of_one_name_do_not_replace_each_other(
    images: Sequence[Image], face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is in its folder, and only what was swapped is signed as a swap, of its own source.

    A/face.png was lost, and of two files that differ in their extension both were signed.
    """
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda image: [] if image.shape[0] < 100 else [face])
    plain = np.full((80, 90, 3), 77, np.uint8)
    pictures = {"A/face.png": images[0], "B/face.png": plain, "B/face.jpg": images[1]}
    for name, image in pictures.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith("jpg"):
            (tmp_path / name).write_bytes(image_io.encode_jpeg(image))
        else:
            image_io.write_png(tmp_path / name, image)
    output = tmp_path / "out"
    summary = _convert(tmp_path / "[AB]" / "*", output, settings=PLAIN)
    assert (3, 2) == (summary.frames, summary.swapped)
    made = sorted(path for path in output.rglob("*") if path.suffix in (".png", ".jpg"))
    assert sorted(pictures) == [path.relative_to(output).as_posix() for path in made]
    for path in made:
        name = path.relative_to(output).as_posix()
        is_swapped = name != "B/face.png"
        image = image_io.read_image(path)
        assert image.shape == pictures[name].shape
        if is_swapped:
            assert "bo" == _painted_identity(image, face)
        assert is_swapped == (read_credentials(path) is not None)
    assert (tmp_path / "B/face.png").read_bytes() == (output / "B/face.png").read_bytes()
    with pytest.raises(InputError, match="would replace the images themselves"):
        _convert(tmp_path / "[AB]" / "*", tmp_path, settings=PLAIN)


# --- provenance -------------------------------------------------------------------------------


@pytest.mark.slow
def test_output_is_signed_unless_disabled(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed in the file and beside it; without credentials neither, and no older sidecar."""
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "out.mp4"
    _convert(clip, output, settings=PLAIN)
    signed = read_credentials(output)
    assert signed is not None
    assert signed.claim is not None
    assert (True, 12, 12) == (
        signed.is_swap,
        signed.claim.frames,
        signed.claim.swapped,
    )
    beside = read_sidecar(output)
    assert beside is not None
    assert beside.matches
    _convert(clip, output, settings=replace(PLAIN, credentials=False))
    assert read_credentials(output) is None
    assert not sidecar_path(output).exists()


@pytest.mark.slow
def test_missing_credentials_are_logged_in_the_run(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each unsigned output adds a line to the run's log; a signed one adds none."""
    _use_detector(monkeypatch, lambda _: [face])
    monkeypatch.setattr(stage.checkpoint, "read_metadata", lambda _: {"images_seen": 7})
    run = RunFolder(root=tmp_path / "run")
    run.root.mkdir()
    run.recipe.write_text("", encoding="utf-8")
    run.weights.write_bytes(b"")
    run.log.write_text('{"images_seen": 7}\n', encoding="utf-8")

    for credentials in (True, False):
        settings = replace(PLAIN, credentials=credentials)
        _convert(clip, tmp_path / "out.mp4", weights=run.weights, settings=settings)

    before, added = map(json.loads, run.log.read_text(encoding="utf-8").splitlines())
    assert {"images_seen": 7} == before
    assert (7, "unsigned_output") == (added["images_seen"], added["event"])
    assert "without credentials" in added["message"]


def test_the_label_is_visible_in_every_frame(
    clip: Path, face: Face, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label is in a corner of every frame, and the rest is preserved."""
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "out.mp4"
    _convert(clip, output, settings=replace(PLAIN, visible_label=True))
    for before, after in zip(read_frames(clip), read_frames(output), strict=True):
        changed = abs(before.image.astype(int) - after.image).max(axis=2) > 60
        changed[40:130] = False  # the face
        rows, _ = np.nonzero(changed)
        assert len(rows) > 50
        assert rows.min() >= 130 or rows.max() < 40


# --- previews ---------------------------------------------------------------------------------


def _preview_arguments(**changes: object) -> dict[str, object]:
    """Return the arguments that previews share."""
    return {"weights": WEIGHTS, "to": None, "device": "cpu", "report": Reporter()} | changes


def test_a_preview_samples_the_whole_clip(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame is three tiles (original, swapped, mask), two frames a row."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "preview.png"
    count = preview_stage.preview(clip, output=output, count=5, **_preview_arguments())  # type: ignore[arg-type]
    assert 5 == count
    image = image_io.read_image(output)
    height, width = image.shape[:2]
    assert 6 * preview_stage.TILE_PX < width < 6.3 * preview_stage.TILE_PX
    assert 3 * preview_stage.TILE_PX < height < 3.4 * preview_stage.TILE_PX


def test_preview_tiles_are_aligned(clip: Path, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """The swapped tile differs in the face only, where the mask's tile is bright."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    opened, swapper, assignments, _ = preview_stage._prepare(
        clip, WEIGHTS, "bo", "cpu", PLAIN, None
    )
    (item,) = preview_stage.search_frames(opened, assignments, count=1)
    before, after, dimmed = (tile.astype(int) for tile in preview_stage.render_tiles(swapper, item))
    middle, corner = (128, 128), (4, 4)
    assert before[corner].tolist() == after[corner].tolist()
    np.testing.assert_allclose(TINTS["bo"], after[middle], atol=2)
    assert before[middle].tolist() == dimmed[middle].tolist()
    np.testing.assert_allclose(
        before[corner] * preview_stage.DIMMED_LEVEL / 255, dimmed[corner], atol=1
    )


def test_the_grid_compares_all_blends_and_color_transfers(
    clip: Path, face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row for each blend mode, a column for the original and each color transfer."""
    use_model(monkeypatch, Painter())
    _use_detector(monkeypatch, lambda _: [face])
    output = tmp_path / "grid.png"
    preview_stage.compare_settings(clip, output=output, **_preview_arguments())  # type: ignore[arg-type]
    height, width = image_io.read_image(output).shape[:2]
    assert len(preview_stage.BLEND_MODES) == height // preview_stage.TILE_PX
    assert 1 + len(preview_stage.COLOR_TRANSFERS) == width // preview_stage.TILE_PX


def _frame_indices(items: Sequence[preview_stage.PreviewFrame]) -> list[int]:
    """Return the indices of the frames."""
    return [item.frame.index for item in items]


@pytest.mark.slow
def test_a_preview_excludes_deleted_crops(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faces come from a set: nothing is detected, and deleted ones are left out."""
    use_model(monkeypatch, Painter())
    space = Workspace.open(tmp_path / "workspace")
    folder = space.set_folder("bo")
    extract(clip, folder=folder, settings=ExtractSettings(), report=Reporter())
    crops = sorted(folder.root.glob("*.png"))
    for path in crops[:9]:
        path.unlink()
    for module, name in ((analysis, "LOCATION_DETECTORS"), (preview_stage, "DETECTORS")):
        monkeypatch.setattr(module, name, {})
    output = tmp_path / "preview.png"

    arguments = _preview_arguments(workspace=space)
    assert 3 == preview_stage.preview(clip, output=output, count=5, **arguments)  # type: ignore[arg-type]
    preview_stage.compare_settings(clip, output=output, **arguments)  # type: ignore[arg-type]

    opened, _, assignments, sets = preview_stage._prepare(clip, WEIGHTS, None, "cpu", PLAIN, space)
    known = preview_stage.select_known_frames(opened, assignments, sets, count=2, report=Reporter())
    items = list(preview_stage.iter_preview_frames(opened, assignments, known, count=2))
    assert [9, 11] == _frame_indices(items)
    frames = list(read_frames(clip))
    for item in items:
        np.testing.assert_array_equal(frames[item.frame.index].image, item.frame.image)


def test_a_preview_of_a_track_shows_only_that_track(
    face: Face, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only frames with the second face are task; an unknown track is an error."""
    use_model(monkeypatch, Painter())
    video = _write_video(tmp_path / "in.mp4", _numbered_images(12))
    both = [_face_at(face, 4), _face_at(face, 36)]
    _use_detector(monkeypatch, lambda image: both if _image_number(image) >= 4 else both[:1])
    opened, _, assignments, sets = preview_stage._prepare(
        video, WEIGHTS, "bo", "cpu", replace(PLAIN, faces=("track:1",)), None
    )

    known = preview_stage.select_known_frames(opened, assignments, sets, count=3, report=Reporter())
    items = list(preview_stage.iter_preview_frames(opened, assignments, known, count=3))

    assert [5, 8, 10] == _frame_indices(items)
    for item in items:
        (task,) = item.tasks
        assert 1 == task.track
        assert _image_number(item.frame.image) == item.frame.index
        np.testing.assert_allclose(both[1].landmarks, task.landmarks, atol=0.01)
    settings = replace(PLAIN, faces=("track:7",))
    with pytest.raises(NoFacesError, match="track:7"):
        preview_stage.compare_settings(
            video, output=tmp_path / "a.png", **_preview_arguments(settings=settings)
        )  # type: ignore[arg-type]


def test_a_preview_without_faces_fails(
    clip: Path, tmp_path: Path, model: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a face there is the same error as for convert, and no image."""
    _use_detector(monkeypatch, lambda _: [])
    output = tmp_path / "preview.png"
    with pytest.raises(NoFacesError, match="there is no face"):
        preview_stage.preview(clip, output=output, count=5, **_preview_arguments())  # type: ignore[arg-type]
    assert not output.exists()


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        (ConvertSettings(color="lap"), '"lap"', 'did you mean "lab"?'),
        (ConvertSettings(blend="possion"), '"possion"', 'did you mean "poisson"?'),
        (ConvertSettings(mask="ovl"), '"ovl"', 'did you mean "oval"?'),
        (ConvertSettings(feather=2), "feather 2", "0 to 0.5"),
        (ConvertSettings(shrink=-1), "shrink -1", "-0.5 to 0.5"),
        (ConvertSettings(sharpen=9), "sharpen 9", "0 leaves it"),
        (ConvertSettings(codec="prorez"), '"prorez"', 'did you mean "prores"?'),
        (ConvertSettings(codec="prores"), "cannot hold prores", ".mov"),
        (ConvertSettings(quality=99), "quality 99", "51"),
        (ConvertSettings(start_s=2, end_s=1), "not after the start", "beginning"),
        (ConvertSettings(mask="learned"), "predicts no mask", "--mask oval"),
        (ConvertSettings(faces=("largest=cy",)), '"cy"', "ada, bo"),
    ],
)
def test_settings_are_checked_before_any_work(
    settings: ConvertSettings,
    message: str,
    hint: str,
    clip: Path,
    tmp_path: Path,
    model: Echo,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong setting is refused with a hint, and nothing is written."""
    monkeypatch.setattr(stage, "analyze_clip", lambda *_, **__: pytest.fail("began to work"))
    with pytest.raises(ConfigurationError, match=message) as caught:
        _convert(clip, tmp_path / "out.mp4", settings=settings)
    assert hint in caught.value.hint
    assert [] == list(tmp_path.iterdir())


def _truncate(data: bytes) -> bytes:
    """Return the first half."""
    return data[: len(data) // 2]


def _flip_bit(data: bytes) -> bytes:
    """Return the bytes with one bit of the weights changed."""
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize(
    ("spoil", "backend", "message"),
    [
        (_truncate, "autoencoder", "is damaged"),
        (_flip_bit, "autoencoder", "is damaged"),
        (lambda _: b"no weights at all", "autoencoder", "is damaged"),
        (lambda data: data, "futuristic", "that this version does not have"),
        (lambda data: data, "cyclegan", "that this version does not have"),
    ],
    ids=["truncated", "tampered with", "not ours", "unknown backend", "other networks"],
)
def test_weights_that_cannot_be_used_are_refused(
    spoil: Callable[[bytes], bytes], backend: str, message: str, clip: Path, tmp_path: Path
) -> None:
    """The error has exit code 6 and a hint, and nothing is written."""
    recipe = resolve("autoencoder", "debug", [])
    model = registry.load("autoencoder")(recipe.model, recipe.train, ("ada", "bo"))
    header = {
        "format": "1",
        "recipe": json.dumps({**recipe.to_dict(), "backend": backend}),
        "identities": '["ada", "bo"]',
        "images_seen": "8",
    }
    path = tmp_path / "weights.safetensors"
    checkpoint.write_safetensors(path, model.state_dict(), header)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message) as caught:
        _convert(clip, tmp_path / "out.mp4", weights=path)
    assert 6 == caught.value.exit_code
    assert caught.value.hint
    assert [path] == list(tmp_path.iterdir())


def test_the_model_is_not_loaded_for_an_input_that_is_no_video(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing input or an output that cannot be written is reported first."""
    monkeypatch.setattr(loading, "load_weights", lambda *_: pytest.fail("loaded"))
    with pytest.raises(InputError, match="there is no file"):
        _convert(tmp_path / "no.mp4", tmp_path / "out.mp4")
    with pytest.raises(InputError, match="has no frame from 5 s on"):
        _convert(clip, tmp_path / "out.mp4", settings=replace(PLAIN, start_s=5))
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="neither images nor videos"):
        _convert(tmp_path / "a", tmp_path / "out")
    for name in ("a", "b"):
        (tmp_path / "a" / f"{name}.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(InputError, match="holds 2 videos"):
        _convert(tmp_path / "a", tmp_path / "out.mp4")


def test_the_input_is_never_the_output(clip: Path, tmp_path: Path, model: Echo) -> None:
    """Writing over the input is refused, under any of its names."""
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    before = clip.read_bytes()
    for output in (clip, link, tmp_path):
        with pytest.raises(InputError):
            _convert(clip, output)
    assert before == clip.read_bytes()


def test_large_frames_reduce_the_batch_size() -> None:
    """The memory of frames in flight is bounded, and a batch has at least one frame."""
    assert 16 == stage.limit_batch_size((1280, 720), requested=16)
    assert 3 == stage.limit_batch_size((3840, 2160), requested=16)
    assert 1 == stage.limit_batch_size((32768, 32768), requested=16)
