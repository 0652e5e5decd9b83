"""A set is made of one source with one choice of settings, or not at all."""

import shutil
import tomllib
from pathlib import Path

import pytest
from fakes import (
    FACE_COUNT,
    RecordingReporter,
    SpotDetector,
    no_op,
    read_set_files,
    run_extract,
    write_clip,
)

from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import ExtractSummary, extract


@pytest.mark.slow
def test_finished_set_is_not_redone(clip: Path, folder: SetFolder) -> None:
    """The same command a second time says so, processes nothing and changes nothing."""
    first = run_extract(clip, folder)
    before, report = read_set_files(folder), RecordingReporter()

    def never(index: int) -> None:
        pytest.fail("processed a frame again")

    second = run_extract(clip, folder, before=never, report=report)

    assert (first.frames, first.faces) == (second.frames, second.faces)
    assert ['the set "spot" is complete: nothing left to do'] == report.notes
    assert before == read_set_files(folder)


def test_deleted_crop_stays_deleted(clip: Path, folder: SetFolder) -> None:
    """A second run does not restore a crop that the user deleted; it is not in the set."""
    run_extract(clip, folder)
    folder.crop_path(5, 0).unlink()

    run_extract(clip, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    assert 5 not in [record.frame for record in found.records]


def test_renamed_video_is_the_same_source(clip: Path, folder: SetFolder) -> None:
    """A source is identified by its content: a set can be continued from a moved file."""
    run_extract(clip, folder)
    moved = Path(shutil.copy(clip, folder.root.parent / "renamed.mp4"))
    report = RecordingReporter()

    run_extract(moved, folder, report=report)

    assert ['the set "spot" is complete: nothing left to do'] == report.notes


def test_different_video_needs_another_set(clip: Path, folder: SetFolder, tmp_path: Path) -> None:
    """A set is never mixed from two sources by accident."""
    run_extract(clip, folder)
    before = read_set_files(folder)
    other = write_clip(tmp_path / "other.mp4", frames=5)

    with pytest.raises(ConfigurationError) as caught:
        run_extract(other, folder)

    assert 'the set "spot" holds the faces of another video, spot.mp4' == caught.value.message
    assert "choose another name with --name" == caught.value.hint
    assert before == read_set_files(folder)


def test_one_changed_byte_is_a_different_source(
    clip: Path, folder: SetFolder, tmp_path: Path
) -> None:
    """A file of the same size with other content is another source."""
    run_extract(clip, folder)
    data = clip.read_bytes()
    assert b"x264" in data  # the encoder's signature, which decoders ignore
    (tmp_path / "other.mp4").write_bytes(data.replace(b"x264", b"y264", 1))

    with pytest.raises(ConfigurationError, match="the faces of another video"):
        run_extract(tmp_path / "other.mp4", folder)


def test_different_settings_need_another_set(clip: Path, folder: SetFolder) -> None:
    """The crops of a set are all of one size."""
    run_extract(clip, folder)

    with pytest.raises(ConfigurationError, match=r"other settings \(size_px 64, now 32\)"):
        run_extract(clip, folder, settings=ExtractSettings(size_px=32))


def test_set_without_source_file_is_not_touched(clip: Path, folder: SetFolder) -> None:
    """A folder with records and without a source is not ours."""
    folder.root.mkdir(parents=True)
    folder.records.write_text("{}\n")

    with pytest.raises(ConfigurationError, match=r"has no source\.toml"):
        run_extract(clip, folder)
    assert "{}\n" == folder.records.read_text()


def test_unreadable_source_file_is_reported(clip: Path, folder: SetFolder) -> None:
    """A damaged source.toml is an error before anything is overwritten."""
    folder.root.mkdir(parents=True)
    folder.source.write_text("[input\n")

    with pytest.raises(InputError, match=r"source\.toml cannot be read"):
        run_extract(clip, folder)


def test_no_face_leaves_no_set(folder: SetFolder, tmp_path: Path) -> None:
    """A clip without faces ends with exit code 4, advice, and no folder."""
    clip = write_clip(tmp_path / "empty.mp4", frames=3, empty={0, 1, 2})

    with pytest.raises(NoFacesError) as caught:
        run_extract(clip, folder)

    assert 4 == caught.value.exit_code
    assert "no face was found in the 3 frames of empty.mp4" == caught.value.message
    assert "30 px wide or more: try a closer shot" in caught.value.hint
    assert not folder.root.exists()


def test_a_missing_video_leaves_no_set(folder: SetFolder, tmp_path: Path) -> None:
    """A typo in the name changes nothing on the disk."""
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        run_extract(tmp_path / "nowhere.mp4", folder)
    assert not folder.root.exists()


def test_detector_load_failure_leaves_no_set(clip: Path, folder: SetFolder) -> None:
    """A missing library is an error before anything is written."""

    def refuse() -> SpotDetector:
        raise InputError("no detector here")

    with pytest.raises(InputError, match="no detector here"):
        extract(
            clip,
            folder=folder,
            settings=ExtractSettings(),
            report=Reporter(),
            detector=refuse,
        )
    assert not folder.root.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ExtractSettings(faces="smallest"), 'no selection of faces called "smallest"'),
        (ExtractSettings(size_px=4), "crops cannot be 4 px wide"),
        (ExtractSettings(every=0), "every 0 frames makes no sense"),
        (ExtractSettings(detector="lightrt"), 'no face detector called "lightrt"'),
        (ExtractSettings(framing="hed"), 'no framing called "hed"'),
        (ExtractSettings(format="bmp"), 'no image format called "bmp"'),
        (ExtractSettings(fps=0), "0 frames a second make no sense"),
        (ExtractSettings(fps=5, every=2), "exclude each other"),
        (ExtractSettings(start_s=3, end_s=2), "the end, 2 s, is not after the start, 3 s"),
    ],
)
def test_settings_are_checked(
    clip: Path, folder: SetFolder, settings: ExtractSettings, message: str
) -> None:
    """An invalid setting is an error before the video is read."""
    with pytest.raises(ConfigurationError, match=message):
        run_extract(clip, folder, settings=settings)


@pytest.mark.slow
def test_user_sections_are_preserved(clip: Path, folder: SetFolder) -> None:
    """They are in source.toml from the start, stay if not repeated, and can be changed."""
    consent = {"consent": {"kind": "written", "note": "“contract” \n of 3 May 😀"}}

    def stop(index: int) -> None:
        if index == 9:
            raise KeyboardInterrupt

    def declared() -> object:
        return tomllib.loads(folder.source.read_text(encoding="utf-8")).get("consent")

    def again(**more: object) -> ExtractSummary:
        return extract(
            clip,
            folder=folder,
            settings=ExtractSettings(size_px=64),
            report=Reporter(),
            detector=lambda: SpotDetector(stop if "stop" in more else no_op),
            extra_sections=more.get("sections", {}),  # type: ignore[arg-type]
        )

    with pytest.raises(KeyboardInterrupt):
        again(sections=consent, stop=True)
    assert consent["consent"] == declared()
    again()
    assert consent["consent"] == declared()
    assert FACE_COUNT == again(sections={"consent": {"kind": "myself"}}).faces
    assert {"kind": "myself"} == declared()
