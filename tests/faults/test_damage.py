"""Every file of the workspace, torn and with bits flipped: noticed and named, or of no effect.

Each file is truncated at ten points and gets ten single bits flipped. What reads it either raises
an error that names it, or notes it, or gives what the whole file gives: a damage that changes
what is read and is not noticed is a failure.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fakes import RecordingReporter, SpotDetector, run_extract
from fault_figures import FaultCount
from faults.injection import KillAtOperation, run_in_process
from faults.workloads import Inputs, digest_files
from test_image_sequence import make_sequence, write_blacked_out

from faceswap_cli.conversion.face_index import FaceIndex
from faceswap_cli.conversion.finished import FinishedLog
from faceswap_cli.core import image_io
from faceswap_cli.core.config import read_recipe_file
from faceswap_cli.core.errors import CheckpointError, FaceswapError, InputError
from faceswap_cli.core.fileio import DamagedFileError, read_json, write_document
from faceswap_cli.core.workspace import RunFolder, SetFolder, Workspace
from faceswap_cli.evaluation.evaluation import read_values
from faceswap_cli.faces.curation.crop_features import compute_features
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.set_source import read_source
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.pretraining.pairs import PairSettings, SwapPairs
from faceswap_cli.provenance.claim import Claim
from faceswap_cli.provenance.consent import Consent, ConsentChoice, read_consent
from faceswap_cli.provenance.sidecar import read_sidecar, sidecar_path, write_sidecar
from faceswap_cli.stages.benchmark import BenchmarkRow, _ResultStore
from faceswap_cli.stages.demo import DemoSummary
from faceswap_cli.stages.extract import extract
from faceswap_cli.training import checkpoint
from faceswap_cli.training.dataset import load_or_build_cache, write_array
from faceswap_cli.training.report import collect_curves, read_run_log
from faceswap_cli.video.segment_file import DamagedSegmentError, Segment

POINTS = 10
"""Truncations of a file, and bits flipped in it."""

CACHE_PX, DETAIL_PX = 24, 48
"""Sides of the decoded crops, px."""
PAIRS = PairSettings(groups=1, validation_groups=0, people=1, moments=1, side_px=24)
FOR_PEOPLE = ("report.html", "previews/*.png")
"""Files of a run that no command reads."""

Damage = Callable[[bytes], bytes]


def damages(size: int, seed: str) -> Iterator[tuple[str, Damage]]:
    """Yield the damages of a file of `size` bytes: each end is among the truncations."""
    rng = random.Random(seed)
    for length in sorted({0, size - 1, *(rng.randrange(size) for _ in range(POINTS - 2))}):
        yield f"truncated at {length}", lambda data, length=length: data[:length]  # type: ignore[misc]
    for _ in range(POINTS):
        position, bit = rng.randrange(size), rng.randrange(8)

        def flip(data: bytes, position: int = position, bit: int = bit) -> bytes:
            return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]

        yield f"bit {bit} of byte {position} flipped", flip


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A kind of file and what reads it."""

    path: Callable[[Inputs], Path]
    read: Callable[[Inputs], object]
    """Returns what a command uses of it."""


def set_of(inputs: Inputs) -> SetFolder:
    """Return the set that is damaged."""
    return inputs.set_folder("ada")


def read_faces(inputs: Inputs) -> object:
    """Return the records of a set as their lines."""
    return [record.to_json() for record in FaceSet.from_folder(set_of(inputs)).records]


def read_first_crop(inputs: Inputs) -> object:
    """Return the pixels of a crop."""
    return image_io.read_image(first_crop(inputs)).tobytes()


def first_crop(inputs: Inputs) -> Path:
    """Return the first crop of a set."""
    return min(set_of(inputs).root.glob("*.png"))


def read_cache(inputs: Inputs) -> object:
    """Return the decoded crops, which are decoded again where their file is damaged."""
    faces = FaceSet.from_folder(set_of(inputs))
    return load_or_build_cache(faces, cache=inputs.run.cache, side_px=CACHE_PX).tobytes()


def cache_file(inputs: Inputs) -> Path:
    """Return the decoded crops of a set."""
    [path] = inputs.run.cache.glob("ada-*.npy")
    return path


def read_weights(path: Callable[[RunFolder], Path]) -> Callable[[Inputs], object]:
    """Return a function that reads a file of tensors."""

    def read(inputs: Inputs) -> object:
        tensors, header = checkpoint.read_safetensors(path(inputs.run))
        return {name: one.numpy().tobytes() for name, one in tensors.items()}, header

    return read


def read_first_jpeg(inputs: Inputs) -> object:
    """Return the pixels of a crop."""
    return image_io.read_image(first_jpeg(inputs)).tobytes()


def first_jpeg(inputs: Inputs) -> Path:
    """Return the first crop of a set of JPEG files."""
    return min(inputs.set_folder("cy").root.glob("*.jpg"))


def read_features(inputs: Inputs) -> object:
    """Return what a set's page is made of; what is not known any more is read again."""
    features = compute_features(
        FaceSet.from_folder(set_of(inputs)),
        cache=set_of(inputs).crop_features,
        load_sface=None,
        on_progress=lambda _: None,
    )
    return list(features.thumbnails), features.gray.tobytes()


def read_detail(inputs: Inputs) -> object:
    """Return the decoded crops from which detail is learned."""
    faces = FaceSet.from_folder(set_of(inputs))
    cache = inputs.run.cache / "detail"
    return load_or_build_cache(faces, cache=cache, side_px=DETAIL_PX).tobytes()


def detail_file(inputs: Inputs) -> Path:
    """Return the decoded crops from which detail is learned."""
    [path] = inputs.run.cache.glob("detail/ada-*.npy")
    return path


def read_curves(inputs: Inputs) -> object:
    """Return the curves and events of a run's page; None if that says that lines are left out."""
    lines = read_run_log(inputs.run)
    if any(line.get("event") == "damaged" for line in lines):
        return None
    keys = ("losses", "learning_rate", "val_reconstruction", "val_losses")
    curves = [collect_curves(lines, key) for key in keys]
    return curves, [line.get("message") for line in lines]


def read_provenance(inputs: Inputs) -> object:
    """Return how a clip was made; None if its sidecar has changed since it was signed."""
    found = read_sidecar(inputs.clip("ada"))
    assert found is not None
    return found.claim if found.is_intact and found.matches else None


def read_finished(inputs: Inputs) -> object:
    """Return what is known of a finished output; of one without an entry None is said."""
    return FinishedLog(inputs.root).find(inputs.clip("ada"), key="key")


def snapshot(run: RunFolder) -> Path:
    """Return the earliest checkpoint that is kept."""
    return min(run.snapshots.iterdir())


def read_pairs(inputs: Inputs) -> object:
    """Return the crops of people who were drawn for pretraining."""
    return SwapPairs.load(PAIRS, pairs_file(inputs).parents[1]).groups[0].tobytes()


def pairs_file(inputs: Inputs) -> Path:
    """Return the first group of drawn people."""
    return inputs.root / "workspace" / "pairs" / PAIRS.digest / "000000.npy"


def demo_folder(inputs: Inputs) -> Path:
    """Return the folder of a finished demo."""
    return inputs.root / "demo"


def benchmark_rows(inputs: Inputs) -> _ResultStore:
    """Return the finished rows of a benchmark."""
    return _ResultStore(path=inputs.root / "results.json")


def write_results(inputs: Inputs) -> None:
    """Write what an evaluation, a benchmark and a demo leave."""
    metrics = {name: {"value": value} for name, value in (("pose", 3.25), ("psnr", "inf"))}
    write_document(inputs.root / "evaluation.json", {"format": 2, "metrics": metrics})
    row = BenchmarkRow(name="unswapped", psnr=12.5, ssim=0.5, trials={"ada as bo": 12.5})
    benchmark_rows(inputs).compute_once(row.name, lambda: row)
    psnr = {"psnr_swap": 24.0, "psnr_unswapped": 12.0, "psnr_mean_face": 19.0, "psnr_ceiling": 30.0}
    ssim = {"ssim_swap": 0.8, "ssim_unswapped": 0.5, "ssim_mean_face": 0.6, "ssim_ceiling": 0.9}
    summary = DemoSummary(folder=demo_folder(inputs), images_seen=96, **psnr, **ssim)
    write_document(summary.folder / "summary.json", summary.to_dict())
    for path in summary.files.values():
        Path(path).touch()


ARTIFACTS: Mapping[str, Artifact] = {
    "workspace.toml": Artifact(
        path=lambda inputs: inputs.root / "workspace" / "workspace.toml",
        read=lambda inputs: read_consent(Workspace.open(inputs.root / "workspace").version_file),
    ),
    "source.toml": Artifact(
        path=lambda inputs: set_of(inputs).source,
        read=lambda inputs: read_source(set_of(inputs).source),
    ),
    "faces.jsonl": Artifact(path=lambda inputs: set_of(inputs).records, read=read_faces),
    "PNG crop": Artifact(path=first_crop, read=read_first_crop),
    "JPEG crop": Artifact(path=first_jpeg, read=read_first_jpeg),
    "looks.npz": Artifact(path=lambda inputs: set_of(inputs).crop_features, read=read_features),
    "decoded crops": Artifact(path=cache_file, read=read_cache),
    "decoded crops for detail": Artifact(path=detail_file, read=read_detail),
    "recipe.toml": Artifact(
        path=lambda inputs: inputs.run.recipe,
        read=lambda inputs: read_recipe_file(inputs.run.recipe),
    ),
    "log.jsonl": Artifact(path=lambda inputs: inputs.run.log, read=read_curves),
    "resume.safetensors": Artifact(
        path=lambda inputs: inputs.run.resume, read=read_weights(lambda run: run.resume)
    ),
    "best.safetensors": Artifact(
        path=lambda inputs: inputs.run.best, read=read_weights(lambda run: run.best)
    ),
    "weights.safetensors": Artifact(
        path=lambda inputs: inputs.run.weights, read=read_weights(lambda run: run.weights)
    ),
    "snapshot": Artifact(path=lambda inputs: snapshot(inputs.run), read=read_weights(snapshot)),
    "sidecar": Artifact(path=lambda inputs: sidecar_path(inputs.clip("ada")), read=read_provenance),
    "list of finished outputs": Artifact(
        path=lambda inputs: FinishedLog(inputs.root).path, read=read_finished
    ),
    "drawn people": Artifact(path=pairs_file, read=read_pairs),
    "evaluation.json": Artifact(
        path=lambda inputs: inputs.root / "evaluation.json",
        read=lambda inputs: read_values(inputs.root / "evaluation.json"),
    ),
    "results of a benchmark": Artifact(
        path=lambda inputs: benchmark_rows(inputs).path,
        read=lambda inputs: benchmark_rows(inputs).load(),
    ),
    "summary of a demo": Artifact(  # that of a damaged one is made again
        path=lambda inputs: demo_folder(inputs) / "summary.json",
        read=lambda inputs: DemoSummary.load(demo_folder(inputs)),
    ),
}


@pytest.fixture
def workspace(inputs: Inputs, tmp_path: Path) -> Inputs:
    """A copy of the user's workspace, to be damaged."""
    shutil.copytree(inputs.root, tmp_path / "inputs")
    copy = Inputs(root=tmp_path / "inputs")
    space = Workspace.open(copy.root / "workspace")
    consent = Consent(kind="written", note="contract of 3 May")
    ConsentChoice(stated=None, default=consent, is_settled=False).settle(space.version_file, {})
    shutil.rmtree(copy.run.cache)  # it belongs to crops with other times
    read_cache(copy)
    read_detail(copy)
    read_features(copy)
    jpeg = ExtractSettings(size_px=64, format="jpeg")
    run_extract(copy.clip("bo"), copy.set_folder("cy"), settings=jpeg)
    crops = np.random.default_rng(0).integers(0, 255, PAIRS.group_shape, dtype=np.uint8)
    write_array(pairs_file(copy), [crops.tobytes()], shape=crops.shape)
    write_sidecar(copy.clip("ada"), Claim(frames=24, swapped=21, model="0" * 64))
    log = FinishedLog(copy.root)
    log.append(log.make_entry(copy.clip("ada"), key="key", summary={"frames": 24}))
    write_results(copy)
    return copy


@pytest.mark.slow
def test_every_file_is_tried(workspace: Inputs) -> None:
    """What a set and a run have on the disk is among the artifacts, or nothing reads it."""
    tried = {artifact.path(workspace) for artifact in ARTIFACTS.values()}
    kinds = {(path.parent, path.suffix) for path in tried}
    read_by_none = {path for one in FOR_PEOPLE for path in workspace.run.root.glob(one)}
    folders = (workspace.run.root, set_of(workspace).root)
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    left = [one for one in files - read_by_none if (one.parent, one.suffix) not in kinds]
    assert [] == left


@pytest.mark.slow
@pytest.mark.fault("damaged {name}")
@pytest.mark.parametrize("name", ARTIFACTS)
def test_damage_is_noticed(name: str, workspace: Inputs, fault_count: FaultCount) -> None:
    """Each damage is an error that names the file, or changes nothing."""
    artifact = ARTIFACTS[name]
    path = artifact.path(workspace)
    whole, expected = path.read_bytes(), artifact.read(workspace)
    for title, damage in damages(len(whole), name):
        path.unlink(missing_ok=True)  # not through a hard link; of a cache there is a new one
        path.write_bytes(damage(whole))
        with fault_count.one():
            assert _read_or_error(artifact, workspace, path.name) in (None, expected), title


def _read_or_error(artifact: Artifact, workspace: Inputs, name: str) -> object:
    """Return what is read; None after an error that names the file, which any other is not."""
    try:
        return artifact.read(workspace)
    except FaceswapError as error:
        if name not in error.message:
            raise
        return None


@pytest.mark.slow
@pytest.mark.fault("damaged checkpoint, the one before it offered")
def test_the_last_good_checkpoint_is_offered(workspace: Inputs, fault_count: FaultCount) -> None:
    """Whatever happened to the last one; training does not begin again by itself."""
    path, whole = workspace.run.resume, workspace.run.resume.read_bytes()
    for title, damage in damages(len(whole), "resume"):
        path.unlink()
        path.write_bytes(damage(whole))
        with fault_count.one():
            with pytest.raises(CheckpointError) as caught:
                checkpoint.load_checkpoint(workspace.run)
            assert path.name in caught.value.message, title
            assert "the last good one has" in caught.value.hint, title


@pytest.mark.slow
def test_a_lost_set_of_records_is_found_again(workspace: Inputs) -> None:
    """What the error about damaged records says to do gives the same set."""
    folder = set_of(workspace)
    before = digest_files(folder.root)
    folder.records.unlink()
    extract(
        workspace.clip("ada"),
        folder=folder,
        settings=ExtractSettings(size_px=64),
        report=RecordingReporter(),
        detector=SpotDetector,
    )
    assert before == digest_files(folder.root)


@pytest.mark.slow
@pytest.mark.fault("damaged progress of an extraction")
@pytest.mark.parametrize("name", ["progress.json", "faces.jsonl"])
def test_damaged_extraction(
    name: str,
    workspace: Inputs,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    fault_count: FaultCount,
) -> None:
    """The save before it is used, or a note says that it starts again; the set is the same."""
    for at in (120, 150, 180):  # when records are saved depends on how busy the machine is
        folder = SetFolder(root=tmp_path / f"half-{at}" / "faces" / "ada")
        half = KillAtOperation(report=tmp_path / "operations", at=at)
        run_in_process("extract", workspace, tmp_path / f"half-{at}", fault=half)
        if folder.previous_progress.exists() and read_json(folder.progress)["bytes"]:
            break
    assert folder.progress.exists()
    assert folder.previous_progress.exists()
    saved = tmp_path / "saved"
    shutil.copytree(folder.root, saved)
    size = read_json(folder.progress)["bytes"]
    set_of(workspace).crop_features.unlink()
    every = list(damages(size if name == "faces.jsonl" else 300, name))
    for title, damage in every if pytestconfig.getoption("--long") else every[3::10]:
        shutil.rmtree(folder.root)
        shutil.copytree(saved, folder.root)
        path = folder.root / name
        path.write_bytes(damage(path.read_bytes()))
        report = RecordingReporter()
        extract(
            workspace.clip("ada"),
            folder=folder,
            settings=ExtractSettings(size_px=64),
            report=report,
            detector=SpotDetector,
        )
        with fault_count.one():
            assert any(f"{name} is damaged" in note for note in report.notes), title
            if name == "progress.json":
                assert any("the save before it is used" in note for note in report.notes), title
            assert digest_files(set_of(workspace).root) == digest_files(folder.root), title


@pytest.mark.fault("damaged parts of a conversion")
def test_damaged_conversion(inputs: Inputs, tmp_path: Path, fault_count: FaultCount) -> None:
    """No part that has changed is taken for whole."""
    half = KillAtOperation(report=tmp_path / "operations", at=110)
    run_in_process("convert", inputs, tmp_path / "half", fault=half)
    [parts] = (tmp_path / "half" / "exports").glob("*.parts")
    index = FaceIndex(folder=parts, key=read_json(parts / "faces.json")["key"])
    segment = min((parts / "frames").glob("*.piece"))
    tried = {parts / "faces.json", parts / "faces.bin", *(parts / "frames").glob("*.piece")}
    others = {path for path in parts.rglob("[!.]*") if path.is_file()} - tried
    assert not [path for path in others if path.suffix != ".part"], "these are tried as well"
    whole_progress, whole_segment = index.read_progress(), _read_segment(segment)
    for name in ("faces.json", "faces.bin"):
        data = (parts / name).read_bytes()
        for title, damage in damages(len(data), name):
            (parts / name).write_bytes(damage(data))
            with fault_count.one():
                try:
                    assert whole_progress == index.read_progress(), title
                except DamagedFileError as error:
                    assert error.path.name.startswith("faces."), title  # noqa: PT017
        (parts / name).write_bytes(data)
    data = segment.read_bytes()
    for title, damage in damages(len(data), "segment"):
        segment.write_bytes(damage(data))
        with fault_count.one():
            assert _read_segment(segment) in (None, whole_segment), title


@pytest.mark.fault("damaged images of a conversion")
def test_damaged_images(tmp_path: Path, fault_count: FaultCount) -> None:
    """An image that has changed is not put in place; it and those after it are made again."""
    source = make_sequence(tmp_path / "in", *(f"{number}.png" for number in range(4)))
    work, output = tmp_path / "work", tmp_path / "out"
    write_blacked_out(source, work).finalize(output)
    expected = digest_files(output)
    writer = write_blacked_out(source, work)
    path = sorted(writer.folder.iterdir())[2]
    whole = path.read_bytes()
    for title, damage in damages(len(whole), "image"):
        path.write_bytes(damage(whole))
        shutil.rmtree(output)
        with fault_count.one():
            with pytest.raises(InputError, match=path.name):
                writer.finalize(output)
            assert not (output / "2.png").exists(), title
            write_blacked_out(source, work).finalize(output)
            assert expected == digest_files(output), title


def _read_segment(path: Path) -> object:
    """Return the packets of a segment; None if it is not whole."""
    segment = Segment.read(path)
    try:
        return None if segment is None else [packet.data for packet in segment.packets()]
    except DamagedSegmentError:
        return None
