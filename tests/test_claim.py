"""Two runs on one DEST: real processes, as on a machine where somebody starts a run twice."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from conftest import write_photo

from verger import claim
from verger.claim import NAME, Claim, claimed
from verger.errors import RunFailedError, SettingError
from verger.photos import list_photos
from verger.storage import Folder

# Claims DEST when told to, and holds it until told that it is over.
HOLD = """
import sys
from verger.claim import claimed
from verger.errors import SettingError
from verger.storage import Folder
print("ready", flush=True)
sys.stdin.readline()
try:
    with claimed(Folder(sys.argv[1])) as check:
        check()
        print("holds", flush=True)
        sys.stdin.read()
        check()
except SettingError:
    print("refused", flush=True)
"""
ELSEWHERE = Claim(process="another-boot pid:[1] 1 1", pid=1, host="elsewhere")


def start(dest: Path, count: int = 1) -> "list[subprocess.Popen[str]]":
    """So many processes that claim DEST at the same moment."""
    command = [sys.executable, "-c", HOLD, str(dest)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    assert [first_line(process) for process in started] == ["ready"] * count
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    return started


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def write(dest: Path, held: Claim) -> None:
    Folder(str(dest)).write(NAME, json.dumps(asdict(held)).encode())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(claim, "DEAD_SECONDS", 1.0)


def test_a_second_run_is_refused_and_told_who_works_there_since_when(tmp_path: Path) -> None:
    with start(tmp_path)[0] as other:
        assert first_line(other) == "holds"
        before = (tmp_path / NAME).read_bytes()
        started = json.loads(before)["started"]
        with pytest.raises(SettingError, match=rf"process {other.pid} on .* since {started}.*choose another --to"):
            claimed(Folder(str(tmp_path))).__enter__()
        assert json.loads((tmp_path / NAME).read_bytes())["run"] == json.loads(before)["run"]
        other.kill()


def test_a_killed_runs_claim_is_taken_over_at_once_and_its_unfinished_files_go(tmp_path: Path) -> None:
    (tmp_path / "vectors").mkdir()
    for name in ("vectors/.verger-part-1.parquet.0a0b.tmp", ".verger-manifest.json.0a0b.tmp", "vectors/my.tmp"):
        (tmp_path / name).touch()
    with start(tmp_path)[0] as other:
        assert first_line(other) == "holds"
        other.send_signal(signal.SIGKILL)
        time.sleep(0.2)  # nobody has waited for it: it is a zombie, and dead all the same
        begun = time.monotonic()
        with claimed(Folder(str(tmp_path))) as check:
            check()
            assert time.monotonic() - begun < claim.DEAD_SECONDS / 3
            assert sorted(file.path for file in Folder(str(tmp_path)).files()) == [NAME, "vectors/my.tmp"]


def test_of_runs_that_start_together_one_goes_on(tmp_path: Path) -> None:
    for attempt in range(2):
        racing = start(tmp_path / str(attempt), 4)
        said = sorted(first_line(process) for process in racing)  # whoever holds DEST does so until all have spoken
        assert [process.communicate(timeout=60)[0] for process in racing] == [""] * 4
        assert said == ["holds", "refused", "refused", "refused"]
        assert list((tmp_path / str(attempt)).iterdir()) == []


def test_a_claim_from_another_machine_that_is_renewed_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "DEAD_SECONDS", 10.0)
    write(tmp_path, ELSEWHERE)
    later = threading.Timer(0.3, write, [tmp_path, replace(ELSEWHERE, beat=1)])
    later.start()
    with pytest.raises(SettingError, match="process 1 on elsewhere"):
        claimed(Folder(str(tmp_path))).__enter__()
    later.join()


def test_a_claim_from_another_machine_that_nobody_renews_is_taken_over(tmp_path: Path, impatient: None) -> None:
    write(tmp_path, ELSEWHERE)
    with claimed(Folder(str(tmp_path))) as check:
        check()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_renewed_as_long_as_the_run_lives(tmp_path: Path, impatient: None) -> None:
    with claimed(Folder(str(tmp_path))):
        deadline = time.monotonic() + 10
        while json.loads((tmp_path / NAME).read_bytes())["beat"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_run_that_was_taken_for_dead_does_not_commit(tmp_path: Path, impatient: None) -> None:
    with claimed(Folder(str(tmp_path))) as check:
        check()
        write(tmp_path, ELSEWHERE)
        time.sleep(0.2)
        write(tmp_path, ELSEWHERE)  # once more: a beat may have been between its look and its writing
        time.sleep(0.2)  # several beats, none of which takes DEST back
        with pytest.raises(RunFailedError, match="process 1 on elsewhere"):
            check()
    assert Claim(**json.loads((tmp_path / NAME).read_bytes())) == ELSEWHERE


def test_a_failed_run_gives_its_claim_back(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(Folder(str(tmp_path))):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_claim_of_ours_stops_nobody(tmp_path: Path) -> None:
    for content in (b"", b"[]", b'{"run": 1}', b"\xff"):
        (tmp_path / NAME).write_bytes(content)
        with claimed(Folder(str(tmp_path))) as check:
            check()


def test_a_claim_is_no_photo(tmp_path: Path) -> None:
    write_photo(tmp_path / "apple" / "1.jpg", 1)
    with claimed(Folder(str(tmp_path / "out"))):
        listing = list_photos(Folder(str(tmp_path)), Folder(str(tmp_path / "out")), 1)
    assert (len(listing.photos), listing.left_out) == (1, {})


def test_a_claim_that_could_not_be_taken_back_does_not_hold_for_ever_in_the_process_that_made_it(
    tmp_path: Path,
) -> None:
    class Stuck(Folder):
        def delete(self, path: str) -> None:
            raise OSError(path)

    with claimed(Stuck(str(tmp_path))):
        pass
    assert (tmp_path / NAME).exists()
    with claimed(Folder(str(tmp_path))) as check:
        check()
    assert not (tmp_path / NAME).exists()
