"""Convert, many inputs: one fails and the others go on; the same command makes what is left."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_models import Echo, use_model
from fakes import RecordingReporter, SpotDetector, write_clip
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.conversion import analysis
from faceswap_cli.conversion.finished import LOG_NAME, FinishedLog
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.output import assign_outputs
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.progress import Number, PartReporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR
from faceswap_cli.stages import convert as stage
from faceswap_cli.video.source import FrameSource, find_sources

FRAMES = 8
SETTINGS = ConvertSettings(mask="both", hwaccel=False, color="none")


@pytest.fixture(autouse=True)
def _spots_are_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take bright spots for faces, and load a model that changes nothing."""
    monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {DEFAULT_DETECTOR: SpotDetector})
    use_model(monkeypatch, Echo())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two clips, one that is no video, and weights."""
    write_clip(tmp_path / "a.mp4", frames=FRAMES, empty=frozenset())
    write_clip(tmp_path / "b.mp4", frames=FRAMES, empty=frozenset(), first=20)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "any.safetensors").write_bytes(b"weights")
    return tmp_path


def convert(
    folder: Path, *names: str, output: str | None = "out", settings: ConvertSettings = SETTINGS
) -> tuple[stage.BatchSummary, RecordingReporter]:
    """Convert files of a folder; return the summary and what was reported."""
    report = RecordingReporter()
    summary = stage.convert_inputs(
        [folder / name for name in names],
        model=str(folder / "any.safetensors"),
        to=None,
        output=None if output is None else folder / output,
        device="cpu",
        report=report,
        settings=settings,
        workspace=Workspace(root=folder / "workspace"),
    )
    return summary, report


def test_a_failed_input_does_not_stop_the_others(folder: Path) -> None:
    """Every input is either converted or failed, with its reason; the order does not matter."""
    summary, _ = convert(folder, "broken.mp4", "gone.mp4", "a.mp4", "b.mp4")
    assert ["a.mp4", "b.mp4"] == list(summary.converted)
    assert {str(folder / "broken.mp4"), str(folder / "gone.mp4")} == set(summary.failed)
    assert ["a-swapped.mp4", "b-swapped.mp4"] == sorted(
        path.name for path in (folder / "out").glob("*.mp4")
    )
    assert {FRAMES} == {one.frames for one in summary.converted.values()}


def test_a_clip_without_a_face_fails_by_itself(folder: Path) -> None:
    """What is found out while converting is of one input, too."""
    write_clip(folder / "empty.mp4", frames=4, empty=frozenset(range(4)))
    summary, report = convert(folder, "empty.mp4", "a.mp4")
    assert ["a.mp4"] == list(summary.converted)
    assert "no face in empty.mp4" in summary.failed["empty.mp4"].message
    assert any("failed: " in note and "empty.mp4" in note for note in report.notes)


def test_one_bar_counts_all_frames_of_both_passes(folder: Path) -> None:
    """Progress never goes back, and ends at twice the frames of all inputs."""
    _, report = convert(folder, "a.mp4", "b.mp4")
    assert report.done == sorted(report.done)
    assert 4 * FRAMES == report.done[-1]


@pytest.mark.slow
def test_the_same_command_makes_only_what_is_left(folder: Path) -> None:
    """What is finished stays as it is; what was deleted or came late is made."""
    convert(folder, "a.mp4")
    first, _ = convert(folder, "a.mp4", "b.mp4")
    kept, deleted = folder / "out/a-swapped.mp4", folder / "out/b-swapped.mp4"
    before = kept.stat().st_mtime_ns
    deleted.unlink()
    second, report = convert(folder, "a.mp4", "b.mp4")
    assert before == kept.stat().st_mtime_ns
    assert deleted.exists()
    assert first.converted["a.mp4"] == second.converted["a.mp4"]
    assert [f"a.mp4: finished before, as {kept}; delete it to make it again"] == [
        note for note in report.notes if "finished" in note
    ]


def test_a_single_output_is_made_again_if_it_was_deleted(folder: Path) -> None:
    """Deleting it is how a user asks for it; until then it stays as it is."""
    first, _ = convert(folder, "a.mp4", output="out/x.mp4")
    output = folder / "out/x.mp4"
    before = output.stat().st_mtime_ns
    second, _ = convert(folder, "a.mp4", output="out/x.mp4")
    assert (before, first) == (output.stat().st_mtime_ns, second)
    output.unlink()
    convert(folder, "a.mp4", output="out/x.mp4")
    assert before < output.stat().st_mtime_ns


@pytest.mark.parametrize("change", ["settings", "weights", "clip", "output", "one byte"])
def test_what_changed_is_made_again(folder: Path, change: str) -> None:
    """Another model, setting or clip gives another output, and a replaced one is not ours."""
    convert(folder, "a.mp4")
    output = folder / "out/a-swapped.mp4"
    settings = SETTINGS
    if change == "settings":
        settings = ConvertSettings(mask="both", hwaccel=False, color="none", quality=30)
    elif change == "weights":
        (folder / "any.safetensors").write_bytes(b"others")
    elif change == "clip":
        write_clip(folder / "a.mp4", frames=FRAMES - 1, empty=frozenset())
    elif change == "one byte":
        content = output.read_bytes()
        output.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        output.write_bytes(b"another file")
    before = output.stat().st_mtime_ns
    convert(folder, "a.mp4", settings=settings)
    assert before < output.stat().st_mtime_ns
    assert output.stat().st_size > 1000


def test_what_another_device_made_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices and their precisions give other frames."""
    convert(folder, "a.mp4")
    output = folder / "out/a-swapped.mp4"
    before = output.stat().st_mtime_ns
    load = FaceModel.load
    monkeypatch.setattr(
        FaceModel,
        "load",
        lambda *words, **options: replace(load(*words, **options), device_info="cuda float16"),
    )
    convert(folder, "a.mp4")
    assert before < output.stat().st_mtime_ns


def test_a_deleted_crop_makes_the_output_again(folder: Path) -> None:
    """The digest of a set is that of its records and of the crops that are there."""
    root = folder / "workspace/faces/a"
    root.mkdir(parents=True)
    (root / "faces.jsonl").write_text("{}\n")
    crops = [root / f"00000{index}-0.png" for index in range(2)]
    for crop in crops:
        crop.write_bytes(b"crop")
    one = analysis.ExtractedSet(
        folder=Workspace(root=folder / "workspace").set_folder("a"),
        input_index=0,
        settings={},
        is_finished=True,
    )
    digest = one.digest()
    (root / "rejected").mkdir()
    crops[0].rename(root / "rejected" / crops[0].name)
    assert digest == one.digest()
    crops[1].unlink()
    assert digest != one.digest()


def test_the_only_input_raises_its_error(folder: Path) -> None:
    """With one input, or none that can be opened, there is nothing to go on with."""
    with pytest.raises(InputError, match=r"broken\.mp4"):
        convert(folder, "broken.mp4")
    with pytest.raises(InputError, match=r"broken\.mp4"):
        convert(folder, "broken.mp4", "gone.mp4")


def test_an_identity_that_is_not_there_stops_all(folder: Path) -> None:
    """What is wrong with the command, not with an input, is said once and at once."""
    with pytest.raises(ConfigurationError, match="zoe"):
        stage.convert_inputs(
            [folder / "a.mp4", folder / "b.mp4"],
            model=str(folder / "any.safetensors"),
            to="zoe",
            output=folder / "out",
            device="cpu",
            report=RecordingReporter(),
            settings=SETTINGS,
            workspace=Workspace(root=folder / "workspace"),
        )
    assert not (folder / "out").exists()


def sources_in(folder: Path, *names: str) -> list[FrameSource]:
    """Return the sources in a folder."""
    return find_sources([folder / name for name in names])


def test_outputs_of_one_and_of_several_inputs(folder: Path) -> None:
    """A single video may name its file; a folder has a file for each."""
    [one] = sources_in(folder, "a.mp4")
    both = sources_in(folder, "a.mp4", "b.mp4")

    def outputs(sources: list[FrameSource], name: str, *, is_folder: bool) -> list[str]:
        pairs = assign_outputs(sources, folder / name, is_folder=is_folder)
        return [path.relative_to(folder).as_posix() for _, path in pairs]

    assert ["x.mkv"] == outputs([one], "x.mkv", is_folder=False)
    assert ["new/a-swapped.mp4"] == outputs([one], "new", is_folder=False)
    assert ["new.d/a-swapped.mp4"] == outputs([one], "new.d", is_folder=True)
    assert ["new/a-swapped.mp4", "new/b-swapped.mp4"] == outputs(both, "new", is_folder=True)
    assert ["new/a-swapped.mp4"] == outputs([one, one], "new", is_folder=True)


def test_results_of_the_last_time_are_no_inputs(folder: Path) -> None:
    """`*.mp4` also matches the outputs in the same folder."""
    write_clip(folder / "a-swapped.mp4", frames=2)
    pairs = assign_outputs(
        sources_in(folder, "a.mp4", "a-swapped.mp4", "b.mp4"), folder, is_folder=True
    )
    assert ["a.mp4", "b.mp4"] == [source.name for source, _ in pairs]


def test_two_inputs_cannot_share_an_output(folder: Path) -> None:
    """One would replace the other."""
    (folder / "more").mkdir()
    write_clip(folder / "more/a.mp4", frames=2)
    with pytest.raises(ConfigurationError, match=r"both become .*a-swapped\.mp4"):
        assign_outputs(sources_in(folder, "a.mp4", "more/a.mp4"), folder / "out", is_folder=True)


def test_several_inputs_do_not_fit_into_a_file(folder: Path) -> None:
    """A name with the extension of a video is a folder only if it is one already."""
    both = sources_in(folder, "a.mp4", "b.mp4")
    with pytest.raises(ConfigurationError, match=r"2 inputs do not fit into x\.mp4"):
        assign_outputs(both, folder / "x.mp4", is_folder=True)
    (folder / "x.mp4").mkdir()
    assert 2 == len(assign_outputs(both, folder / "x.mp4", is_folder=True))


def record_finished(log: FinishedLog, output: Path, *, frames: int) -> None:
    """Record a finished output."""
    log.append(log.make_entry(output, key="k", summary={"frames": frames}))


def test_a_torn_line_of_the_log_is_as_good_as_none(tmp_path: Path) -> None:
    """The output is made again, and then recorded after the torn line."""
    output = tmp_path / "x.mp4"
    output.write_bytes(b"video")
    log = FinishedLog(tmp_path)
    record_finished(log, output, frames=3)
    text = (tmp_path / LOG_NAME).read_text()
    (tmp_path / LOG_NAME).write_bytes(text.encode()[:20] + b"\xff")
    assert log.find(output, key="k") is None
    record_finished(log, output, frames=3)
    assert {"frames": 3} == log.find(output, key="k")


def test_an_output_folder_is_finished_until_a_file_in_it_changes(tmp_path: Path) -> None:
    """Its images by name and content; hidden files, which others put there, do not count."""
    output = tmp_path / "photos-swapped"
    output.mkdir()
    (output / "1.png").write_bytes(b"one")
    log = FinishedLog(tmp_path)
    record_finished(log, output, frames=1)
    (output / ".thumbnails").write_bytes(b"")
    assert {"frames": 1} == log.find(output, key="k")
    (output / "1.png").write_bytes(b"two")
    assert log.find(output, key="k") is None
    (output / "1.png").write_bytes(b"one")
    (output / "1.png").rename(output / "2.png")
    assert log.find(output, key="k") is None


def test_notes_name_their_part() -> None:
    """A line of one input says which, once."""
    report = RecordingReporter()
    parts = PartReporter(report, title="convert 2 inputs", total=4, unit="frames")
    parts.start_part("a.mp4", start=0)
    parts.note("the source is damaged")
    parts.note("a.mp4 is damaged")
    assert ["a.mp4: the source is damaged", "a.mp4 is damaged"] == report.notes


def test_the_command_prints_a_result_by_input(folder: Path) -> None:
    """JSON has a summary or an error by input; the exit code is that of the first failure."""
    words = ["convert", "a.mp4", "broken.mp4", "--model", "any.safetensors", "-o", "out"]
    paths = [str(folder / word) if "." in word or word == "out" else word for word in words]
    done = CliRunner().invoke(
        app,
        [*paths, "--device=cpu", "--json", f"--workspace={folder / 'workspace'}"],
    )
    assert 3 == done.exit_code
    result: dict[str, dict[str, Number]] = json.loads(done.stdout)
    assert FRAMES == result["a.mp4"]["frames"]
    assert 3 == result[str(folder / "broken.mp4")]["exit_code"]
    assert "error:" in done.stderr
    assert "broken.mp4" in done.stderr
