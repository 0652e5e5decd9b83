"""MediaPipe as a detector: no log output, no telemetry, and clear errors on what it lacks."""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli.core import model_files
from faceswap_cli.core.errors import InputError
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.head_pose import rotation_to_euler
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """A proxy that the environment names; connections to the outside would reach it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("https_proxy", address)
    monkeypatch.setenv("HTTPS_PROXY", address)
    monkeypatch.setenv("no_proxy", "intranet.example")
    return listener


def test_telemetry_is_blocked(proxy: socket.socket) -> None:
    """MediaPipe's usage report, sent when it is closed, never reaches the proxy."""
    with MediaPipeDetector() as detector:
        detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))

    with proxy, pytest.raises(BlockingIOError):
        proxy.accept()


def test_environment_is_restored(proxy: socket.socket) -> None:
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


def test_the_library_logs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Loading, detection and closing write nothing to standard error."""
    image = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 256).image

    with MediaPipeDetector() as detector:
        assert 1 == len(detector.detect(image))
        assert 1 == len(detector.detect(image))

    assert ("", "") == capfd.readouterr()


def test_blendshape_names_match_mediapipe() -> None:
    """`BLENDSHAPE_NAMES` has MediaPipe's 52 names in MediaPipe's order."""
    image = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 256).image

    with MediaPipeDetector() as detector:
        assert detector._tasks is not None
        found = detector._tasks.landmarker.detect(detector._tasks.to_mp_image(image))

    assert BLENDSHAPE_NAMES == tuple(entry.category_name for entry in found.face_blendshapes[0])


def test_missing_graphics_libraries_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without libEGL the error says what to install."""

    def refuse(name: str, *_: object, **__: object) -> None:
        raise OSError("libEGL.so.1: cannot open shared object file: No such file or directory")

    from mediapipe.tasks.python.core import mediapipe_c_bindings

    monkeypatch.setattr(mediapipe_c_bindings, "load_shared_library", refuse)

    with pytest.raises(InputError) as caught, MediaPipeDetector():
        pass
    assert "cannot be loaded: libEGL.so.1: cannot open shared object" in caught.value.message
    assert "apt install libegl1 libgles2" in caught.value.hint


def test_missing_mediapipe_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says how to install it."""
    monkeypatch.setitem(sys.modules, "mediapipe", None)

    with pytest.raises(InputError) as caught, MediaPipeDetector():
        pass
    assert 'install it with: pip install "mediapipe>=1.2,<2"' == caught.value.hint


def test_failed_open_restores_everything(
    proxy: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment and standard error are restored when opening fails."""
    before = dict(os.environ), os.fstat(2)
    monkeypatch.setitem(sys.modules, "mediapipe", None)

    with pytest.raises(InputError), MediaPipeDetector():
        pass

    proxy.close()
    assert before == (dict(os.environ), os.fstat(2))


def test_another_model_file_is_refused(tmp_path: Path) -> None:
    """An explicit model file must be the one with the known digest."""
    (tmp_path / "other.task").write_bytes(b"not a model")

    with pytest.raises(InputError, match="its SHA-256 differs"):
        MediaPipeDetector(model=tmp_path / "other.task").__enter__()


def test_model_file_may_have_any_name(tmp_path: Path) -> None:
    """Spaces and letters beyond ASCII in its path are fine."""
    odd = tmp_path / "модель 顔.task"
    odd.write_bytes(model_files.find_model_file("face_landmarker").read_bytes())

    with MediaPipeDetector(model=odd) as detector:
        assert [] == detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("pose", [(0, 0, 0), (30, 0, 0), (0, -20, 0), (0, 0, 15), (-25, 12, 40)])
def test_rotation_to_euler_round_trip(pose: tuple[float, float, float]) -> None:
    """The angles that the renderer rotates by are recovered, with their signs."""
    from faceswap_cli.synthetic.camera import rotation

    np.testing.assert_allclose(rotation_to_euler(rotation(*pose)), pose, atol=1e-6)
