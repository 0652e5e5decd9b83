"""MediaPipe under our roof: quiet, offline, and clear about what it lacks."""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli import weights
from faceswap_cli.actors import CAST, Actor, Moment, draw
from faceswap_cli.errors import InputError
from faceswap_cli.faces.detect import EXPRESSIONS, MediaPipeDetector, angles


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A proxy that the user's environment names; it hears whoever would leave the machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("https_proxy", address)
    monkeypatch.setenv("HTTPS_PROXY", address)
    monkeypatch.setenv("no_proxy", "intranet.example")
    return listener


def test_nothing_is_reported_over_the_network(proxy: socket.socket) -> None:
    """MediaPipe's report of its use, sent when it is closed, never reaches the way out."""
    with MediaPipeDetector() as detector:
        detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))

    with proxy, pytest.raises(BlockingIOError):
        proxy.accept()


def test_the_environment_comes_back(proxy: socket.socket) -> None:
    """The user's proxy is back when the last of several detectors closes, and not before."""
    before = dict(os.environ)
    first, second = MediaPipeDetector(), MediaPipeDetector()

    with first:
        second.__enter__()
    assert os.environ["https_proxy"].startswith("nowhere://")
    assert "no_proxy" not in os.environ
    second.close()

    proxy.close()
    assert before == dict(os.environ)


def test_the_library_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Loading, finding and closing leave standard error to the program."""
    image = draw(Actor.of(CAST["ada"]), Moment(), 256).image

    with MediaPipeDetector() as detector:
        assert 1 == len(detector.detect(image))
        assert 1 == len(detector.detect(image))

    assert ("", "") == capfd.readouterr()


def test_the_names_of_the_expressions_are_the_librarys() -> None:
    """Our constant has MediaPipe's 52 names in MediaPipe's order."""
    image = draw(Actor.of(CAST["ada"]), Moment(), 256).image

    with MediaPipeDetector() as detector:
        assert detector._tasks is not None
        found = detector._tasks.landmarker.detect(detector._tasks.image(image))

    assert EXPRESSIONS == tuple(entry.category_name for entry in found.face_blendshapes[0])


def test_missing_graphics_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server without libEGL gets one line, and what to install."""

    def refuse(name: str, *_: object, **__: object) -> None:
        raise OSError("libEGL.so.1: cannot open shared object file: No such file or directory")

    from mediapipe.tasks.python.core import mediapipe_c_bindings

    monkeypatch.setattr(mediapipe_c_bindings, "load_shared_library", refuse)

    with pytest.raises(InputError) as caught, MediaPipeDetector():
        pass
    assert "cannot be loaded: libEGL.so.1: cannot open shared object" in caught.value.message
    assert "apt install libegl1 libgles2" in caught.value.hint


def test_a_missing_mediapipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says how to install it."""
    monkeypatch.setitem(sys.modules, "mediapipe", None)

    with pytest.raises(InputError) as caught, MediaPipeDetector():
        pass
    assert 'install it with: pip install "mediapipe>=1.2,<2"' == caught.value.hint


def test_a_failure_to_open_leaves_no_trace(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment and standard error are as before when opening fails."""
    before = dict(os.environ), os.fstat(2)
    monkeypatch.setitem(sys.modules, "mediapipe", None)

    with pytest.raises(InputError), MediaPipeDetector():
        pass

    proxy.close()
    assert before == (dict(os.environ), os.fstat(2))


def test_another_model_file_is_refused(tmp_path: Path) -> None:
    """A file given by hand must be the one this was tested with."""
    (tmp_path / "other.task").write_bytes(b"not a model")

    with pytest.raises(InputError, match="its SHA-256 differs"):
        MediaPipeDetector(model=tmp_path / "other.task").__enter__()


def test_a_model_file_may_lie_under_any_name(tmp_path: Path) -> None:
    """Blanks and letters beyond ASCII in its path are fine."""
    odd = tmp_path / "модель 顔.task"
    odd.write_bytes(weights.find("face_landmarker").read_bytes())

    with MediaPipeDetector(model=odd) as detector:
        assert [] == detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("pose", [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 15), (-25, 12, 40)])
def test_angles_are_read_back_from_a_rotation(pose: tuple[float, float, float]) -> None:
    """What the drawn people are turned by is what is measured, sign by sign."""
    from faceswap_cli.actors.camera import rotation

    np.testing.assert_allclose(angles(rotation(*pose)), pose, atol=1e-6)
