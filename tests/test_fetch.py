"""`verger fetch` against a server on this machine that misbehaves; the real one was never asked."""

import io
import json
import stat
import subprocess
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from archive_server import SMALL, TOP, Served, serving, write_archive

from verger import download, fetch
from verger.archive import check_space
from verger.cli import main
from verger.errors import RunFailedError, SettingError
from verger.git_tree import tree_id
from verger.stages import Quiet, Stages

BOTH = ("Training", "Test")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_archive(tmp_path / "fruits.zip")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.001)  # what matters is that it waits, not how long
    monkeypatch.setattr(download, "SILENCE_SECONDS", 2.0)


def fetched(source: Served | Path, folder: Path, parts: Sequence[str] = BOTH) -> dict[str, Any]:
    address = source.address if isinstance(source, Served) else str(source)
    return fetch.fetch(SMALL, folder, parts, address, Stages(Quiet()))


def photos(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))


def assert_whole(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "LICENSE",
        "README.md",
        "Test",
        "Training",
        "fetched.json",
    ]
    assert len(photos(folder)) == 8


def test_a_data_set_is_fetched_with_its_licence_and_a_receipt(archive: Path, tmp_path: Path) -> None:
    with serving(archive.read_bytes()) as server:
        receipt = fetched(server, tmp_path / "fruits")
    assert_whole(tmp_path / "fruits")
    assert photos(tmp_path / "fruits")[0] == "Test/Apple 10/r0_0_100.jpg"
    assert receipt == json.loads((tmp_path / "fruits" / "fetched.json").read_text())
    assert receipt["commit"] == SMALL.commit
    assert receipt["parts"]["Training"]["classes"] == {"Apple 10": 3, "Pear 1": 3}
    assert receipt["parts"]["Test"]["photos"] == 2


@pytest.mark.parametrize(
    ("moods", "asked"),
    [
        (["cut", "well"], ["", "half"]),
        (["503", "429", "well"], ["", "", ""]),
        (["cut", "no ranges"], ["", "half"]),
        (["cut", "503", "cut", "well"], ["", "half", "half", "three quarters"]),
        (["chunked, cut", "well"], ["", "half"]),
        (["chunked"], [""]),
        (["silent", "well"], ["", "half"]),
    ],
    ids=str,
)
def test_a_download_goes_on_whatever_the_server_does(
    archive: Path, tmp_path: Path, moods: list[str], asked: list[str]
) -> None:
    size = archive.stat().st_size
    at = {"half": size // 2, "three quarters": size // 2 + (size - size // 2) // 2}
    with serving(archive.read_bytes(), *moods) as server:
        fetched(server, tmp_path / "fruits")
    assert server.asked == [f"bytes={at[one]}-" if one else "" for one in asked]
    assert_whole(tmp_path / "fruits")


def test_a_server_that_always_cuts_early_ends_it_and_the_next_call_goes_on(archive: Path, tmp_path: Path) -> None:
    with serving(archive.read_bytes(), "no ranges, cut") as server:
        with pytest.raises(RunFailedError, match="Run the same command again") as failure:
            fetched(server, tmp_path / "fruits")
        assert failure.value.exit_code == 1
        assert [path.name for path in (tmp_path / "fruits").iterdir()] == [".verger-fetch"]
        server.moods[:] = ["well"]
        fetched(server, tmp_path / "fruits")
    assert len(server.asked) == download.TRIES + 2
    assert server.asked[-1] == f"bytes={archive.stat().st_size // 2}-"
    assert_whole(tmp_path / "fruits")


def test_halves_of_two_versions_are_never_joined(archive: Path, tmp_path: Path) -> None:
    other = write_archive(tmp_path / "other.zip", extra=[zipfile.ZipInfo(f"{TOP}/new.txt")])
    with serving(archive.read_bytes(), "cut", "404") as server:
        with pytest.raises(RunFailedError, match="HTTP 404"):
            fetched(server, tmp_path / "fruits")
        server.content, server.tag, server.moods[:] = other.read_bytes(), '"v2"', ["well"]
        fetched(server, tmp_path / "fruits")
    assert_whole(tmp_path / "fruits")


def test_a_call_killed_after_the_last_byte_does_not_fetch_again(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "fruits" / ".verger-fetch"
    work.mkdir(parents=True)
    (work / f"{SMALL.commit}.part").write_bytes(archive.read_bytes())
    with serving(archive.read_bytes()) as server:
        fetched(server, tmp_path / "fruits")
    assert server.asked == [f"bytes={archive.stat().st_size}-"]
    assert_whole(tmp_path / "fruits")


def test_a_server_that_asks_for_an_hour_is_not_waited_for(tmp_path: Path) -> None:
    assert download._asked_wait_seconds("3600") == 3600 > download.LONGEST_WAIT_SECONDS
    assert download._asked_wait_seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0
    assert download._asked_wait_seconds("soon") is None


def test_unpacking_goes_on_where_it_was_killed(archive: Path, tmp_path: Path) -> None:
    trees = [part["tree"] for part in fetched(archive, tmp_path / "once")["parts"].values()]
    work = tmp_path / "fruits" / ".verger-fetch" / "Training" / "Apple 10"
    work.mkdir(parents=True)
    whole = (tmp_path / "once" / "Training" / "Apple 10" / "r0_0_100.jpg").read_bytes()
    (work / "r0_0_100.jpg").write_bytes(whole)
    (work / "r0_1_100.jpg").write_bytes(whole[:100])  # where it was killed
    length = (tmp_path / "once" / "Training" / "Apple 10" / "r0_2_100.jpg").stat().st_size
    (work / "r0_2_100.jpg").write_bytes(bytes(length))  # what a power cut may leave
    kept = (work / "r0_0_100.jpg").stat().st_ino, (work / "r0_0_100.jpg").stat().st_mtime_ns
    assert [part["tree"] for part in fetched(archive, tmp_path / "fruits")["parts"].values()] == trees
    first = (tmp_path / "fruits" / "Training" / "Apple 10" / "r0_0_100.jpg").stat()
    assert (first.st_ino, first.st_mtime_ns) == kept
    assert_whole(tmp_path / "fruits")


@pytest.mark.parametrize("last", ["the licence", "a part", "all"])
def test_a_call_killed_while_it_gives_names_is_finished_by_the_next(archive: Path, tmp_path: Path, last: str) -> None:
    fetched(archive, tmp_path / "fruits")
    (tmp_path / "fruits" / ".verger-fetch").mkdir()
    for name in {"the licence": ["Training", "Test", "fetched.json"], "a part": ["Test"], "all": []}[last]:
        (tmp_path / "fruits" / name).rename(tmp_path / name)
    fetched(archive, tmp_path / "fruits")
    assert_whole(tmp_path / "fruits")


def test_a_part_can_be_added_later_and_what_is_there_is_checked(archive: Path, tmp_path: Path) -> None:
    fetched(archive, tmp_path / "fruits", ["Training"])
    assert not (tmp_path / "fruits" / "Test").exists()
    fetched(archive, tmp_path / "fruits")
    assert_whole(tmp_path / "fruits")
    (tmp_path / "fruits" / "Test" / "Pear 1" / "r0_0_100.jpg").write_bytes(b"another")
    with pytest.raises(RunFailedError, match=r"Delete .*Test"):
        fetched(archive, tmp_path / "fruits")


def test_photos_that_differ_from_the_first_time_are_refused(archive: Path, tmp_path: Path) -> None:
    fetched(archive, tmp_path / "fruits", ["Test"])
    (tmp_path / "fruits" / "Test").rename(tmp_path / "elsewhere")
    other = write_archive(tmp_path / "other.zip", extra=[zipfile.ZipInfo(f"{TOP}/Test/Plum/0_100.jpg")])
    with pytest.raises(RunFailedError, match="the photos of the first time"):
        fetched(other, tmp_path / "fruits", ["Test"])
    assert not (tmp_path / "fruits" / "Test").exists()


def link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{TOP}/Training/Apple 10/link.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (zipfile.ZipInfo(f"{TOP}/../../evil.jpg"), "paths below its own folder"),
        (zipfile.ZipInfo("/etc/evil.jpg"), "paths below its own folder"),
        (zipfile.ZipInfo(f"{TOP}/Training/C:evil/a.jpg"), "paths below its own folder"),
        (zipfile.ZipInfo(f"{TOP}/Training/..\\evil/a.jpg"), "paths below its own folder"),
        (link(), "plain files"),
        (zipfile.ZipInfo(f"{TOP}/Training/Apple 10/r0_0_100.jpg"), "each path once"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.filename,
)
def test_an_archive_that_would_write_elsewhere_is_refused_before_it_writes(
    tmp_path: Path, info: zipfile.ZipInfo, said: str
) -> None:
    with warnings.catch_warnings(action="ignore"):  # zipfile warns of the name that stands twice
        hostile = write_archive(tmp_path / "hostile.zip", extra=[info])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunFailedError, match=said):
        fetched(hostile, tmp_path / "fruits")
    assert [path for path in sorted(tmp_path.rglob("*")) if path.suffix == ".jpg" or path not in before] == [
        tmp_path / "fruits",
        tmp_path / "fruits" / ".verger-fetch",
        tmp_path / "fruits" / ".verger-fetch" / "lock",
    ]


def test_a_photo_of_implausible_size_is_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verger.archive.PHOTO_MOST_BYTES", 100)
    with pytest.raises(RunFailedError, match="files of at most 100 bytes"):
        fetched(archive, tmp_path / "fruits")


def damaged(content: bytes) -> bytes:
    """The same archive with one byte of a photo turned over."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        at = archive.getinfo(f"{TOP}/Test/Pear 1/r0_0_100.jpg").header_offset + 200
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (damaged, "an archive without damage"),
        (lambda content: content[:-1000], "a whole zip archive"),
        (lambda _: b"<html>Sign in</html>", "a whole zip archive"),
    ],
)
def test_a_damaged_archive_is_deleted_and_fetched_anew(archive: Path, tmp_path: Path, spoil: Any, said: str) -> None:
    with serving(spoil(archive.read_bytes())) as server:
        with pytest.raises(RunFailedError, match=said):
            fetched(server, tmp_path / "fruits")
        server.content = archive.read_bytes()
        fetched(server, tmp_path / "fruits")
    assert_whole(tmp_path / "fruits")


def test_the_archive_of_another_commit_is_refused(tmp_path: Path) -> None:
    other = write_archive(tmp_path / "other.zip", comment="0" * 40)
    with pytest.raises(RunFailedError, match="the archive of commit"):
        fetched(other, tmp_path / "fruits")
    assert other.exists()


def test_an_archive_without_the_part_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="photos as TOP/Validation/CLASS"):
        fetched(archive, tmp_path / "fruits", ["Validation"])


def test_a_folder_of_somebody_elses_is_left_alone(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("")
    for folder in ("mine", "file"):
        with pytest.raises(SettingError, match="a new or empty folder"):
            fetched(archive, tmp_path / folder)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_disk_without_room_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    check_space(tmp_path / "new" / "folder", 1)
    endless = replace(SMALL, needed_bytes=10**18)
    with serving(b"") as server, pytest.raises(SettingError, match=r"1000000000\.0 GB of free disk"):
        fetch.fetch(endless, tmp_path / "fruits", BOTH, server.address, Stages(Quiet()))
    assert server.asked == []
    assert not (tmp_path / "fruits").exists()


def test_room_that_a_stopped_call_took_already_is_not_asked_for_again(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "fruits" / ".verger-fetch"
    work.mkdir(parents=True)
    with (work / "begun").open("wb") as file:
        file.truncate(10**12)  # takes no room, but looks like it
    roomy = replace(SMALL, needed_bytes=10**12 + 1)
    fetch.fetch(roomy, tmp_path / "fruits", BOTH, str(archive), Stages(Quiet()))
    assert_whole(tmp_path / "fruits")


def test_one_fetch_at_a_time(archive: Path, tmp_path: Path) -> None:
    with fetch._work_folder(tmp_path / "fruits"), pytest.raises(SettingError, match="one fetch at a time"):
        fetched(archive, tmp_path / "fruits")


def test_an_address_with_a_password_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as failure:
        fetch.fetch(SMALL, tmp_path / "fruits", BOTH, "https://me:secret@example.org/x.zip", Stages(Quiet()))
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fruits-361", "fruits"], 2, "a data set that Verger knows (fruits-360)"),
        (["fruits-360", "fruits", "--part", "half"], 2, "'half' is not one of 'training', 'test', 'all'"),
        (["fruits-360", ".", "--part", "test"], 2, "a new or empty folder"),
        (["fruits-360", "fruits", "--from", "nowhere.zip"], 2, "a file, or an http or https address"),
        (["fruits-360", "fruits", "--from", "fruits.zip"], 0, ""),
    ],
)
def test_the_command_says_what_it_wants_and_what_it_brought(
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(archive.parent)
    monkeypatch.setitem(fetch.DATA_SETS, "fruits-360", replace(SMALL, photos={"Training": 6, "Test": 3}))
    with pytest.raises(SystemExit) as exited:
        main(["fetch", *arguments])
    out, err = capsys.readouterr()
    assert exited.value.code == code
    assert said in err
    if code == 0:
        assert out.splitlines()[:2] == [
            "6 photos of 2 classes in fruits/Training",
            "2 photos of 2 classes in fruits/Test (its author counts 3)",
        ]
        assert "Mihai Oltean" in out
        assert "verger run fruits/Training --to out" in out


def test_a_tree_has_the_id_that_git_gives_it(archive: Path, tmp_path: Path) -> None:
    fetched(archive, tmp_path / "fruits")
    (tmp_path / "fruits" / "Training" / "Pear 1").rename(tmp_path / "fruits" / "Training" / "Apple")  # sorts oddly
    (tmp_path / "fruits" / "Training" / "Apple 10" / ".DS_Store").write_bytes(b"from a desktop")
    (tmp_path / "fruits" / ".gitignore").write_text(".DS_Store")

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path / "fruits"), "-c", "core.autocrlf=false", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    assert tree_id(tmp_path / "fruits" / "Training") == git("rev-parse", f"{git('write-tree')}:Training")
