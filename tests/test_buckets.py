"""Object stores as they are: real servers on this machine, real policies, and the faults of real networks."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import servers
from conftest import mean_colour, write_photo
from servers import Fault, Proxy, times

from verger import RunFailedError, SettingError, stores
from verger.parts import plan_parts, read_index, remove_strangers, table_bytes
from verger.photos import list_photos
from verger.resume import remaining_photos, settle
from verger.settings import Limits
from verger.storage import Folder, Place, open_place
from verger.vectors import embed_part

pytestmark = pytest.mark.server
ODD = ["a b.jpg", "é.jpg", "100%.jpg", "a%20b.jpg", "a#b.jpg", "a+b.jpg", "A+b.jpg", "a?b.jpg", "ü/ö ä/=&.jpg"]
LIMITS = Limits(64_000_000, 64_000_000)
HELP = "needs {}, which scripts/servers installs"


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not servers.AZURITE.exists():
        pytest.skip(HELP.format("Azurite"))
    with servers.azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if servers.GCS is None:
        pytest.skip(HELP.format("fake-gcs-server"))
    with servers.google(tmp_path_factory.mktemp("gcs")) as endpoint:
        yield endpoint


def use_azure(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    named = f"AccountName={servers.AZURITE_ACCOUNT};AccountKey={servers.AZURITE_KEY}"
    blobs = f"BlobEndpoint=http://{endpoint}/{servers.AZURITE_ACCOUNT}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"DefaultEndpointsProtocol=http;{named};{blobs}")


@pytest.fixture(params=["s3", "azure", "google"])
def anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty prefix in each kind of store, with every right."""
    if request.param == "s3":
        servers.use_s3(monkeypatch, request.getfixturevalue("ministack"))
        return f"s3://results/{tmp_path.name}"
    if request.param == "azure":
        use_azure(monkeypatch, request.getfixturevalue("azurite"))
        stores.connect("abfs", "results").create_dir("results")
        return f"abfs://results@{servers.AZURITE_ACCOUNT}.dfs.core.windows.net/{tmp_path.name}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{request.getfixturevalue('google')}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "orchard")  # only to create a bucket
    stores.connect("gs", "results").create_dir("results")
    return f"gs://results/{tmp_path.name}"


@pytest.fixture
def least(ministack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Place, Place]:
    """SOURCE with six photos, and DEST, for a user who has the rights in docs/storage.md and no others."""
    servers.use_s3(monkeypatch, ministack)
    source, dest = f"photos/{tmp_path.name}", f"results/{tmp_path.name}"
    upload_photos(open_place(f"s3://{source}"), tmp_path / "made")
    servers.use_s3(monkeypatch, ministack, *servers.make_user(ministack, tmp_path.name, servers.policy(source, dest)))
    stores._connected.cache_clear()
    return open_place(f"s3://{source}"), open_place(f"s3://{dest}")


@pytest.fixture
def faulty(ministack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Proxy, Place]]:
    """A place in S3 with six photos, behind a proxy whose rule makes faults."""
    with servers.proxy(ministack) as proxy:
        servers.use_s3(monkeypatch, proxy.endpoint)
        place = open_place(f"s3://photos/{tmp_path.name}")
        upload_photos(place, tmp_path / "made")
        proxy.seen.clear()
        yield proxy, place


def upload_photos(place: Place, made: Path) -> None:
    for i in range(6):
        write_photo(made / f"{i}.jpg", i)
        place.write(f"{'apple' if i < 3 else 'pear'}/{i}.jpg", (made / f"{i}.jpg").read_bytes())


def embed(source: Place, dest: Place) -> dict[str, str | None]:
    """Embed everything that is missing, and drop what no longer holds. The error of each photo in DEST, or None."""
    photos = list_photos(source, dest, 1).photos
    index = read_index(dest)
    remaining = remaining_photos(photos, index)
    kept = settle(dest, index, photos, remaining)
    parts = plan_parts(remaining.photos, 4, 2, "f00d")
    for part in parts:
        embed_part(part, (source, dest), mean_colour(), LIMITS)
    remove_strangers(dest, {*kept, *(part.name for part in parts)})
    rows = [row for part in read_index(dest) for row in part.rows.to_pylist()]
    assert len(rows) == len(photos)
    return {row["path"]: row["error"] for row in rows}


def test_a_store_lists_reads_writes_and_deletes_odd_names(anywhere: str) -> None:
    place = open_place(f"{anywhere}/é +#%")
    assert not place.exists()
    place.check_writable()
    assert list(place.files()) == []
    for i, name in enumerate(ODD):
        place.write(name, b"x" * (i + 1))
        place.write(name, b"y" * (i + 1))
    assert place.exists()
    assert sorted((file.path, file.bytes) for file in place.files()) == sorted((n, i + 1) for i, n in enumerate(ODD))
    assert all(file.modified_us > 1_700_000_000_000_000 for file in place.files())
    assert [file.path for file in place.files("ü")] == ["ü/ö ä/=&.jpg"]
    assert [place.read(name) for name in ODD] == [b"y" * (i + 1) for i in range(len(ODD))]
    with place.open("ü/ö ä/=&.jpg") as file:
        assert file.read_at(2, 7) == b"yy"
    for name in ODD:
        place.delete(name)
        place.delete(name)
    assert list(place.files()) == []
    with pytest.raises(FileNotFoundError):
        place.read("a b.jpg")


def test_photos_are_embedded_within_a_store(anywhere: str, tmp_path: Path) -> None:
    source, dest = open_place(f"{anywhere}/photos"), open_place(f"{anywhere}/photos/out")
    upload_photos(source, tmp_path / "made")
    assert embed(source, dest) == dict.fromkeys([f"{'apple' if i < 3 else 'pear'}/{i}.jpg" for i in range(6)])
    source.delete("apple/1.jpg")
    assert len(embed(source, dest)) == 5
    before = sorted(dest.files())
    assert len(embed(source, dest)) == 5
    assert sorted(dest.files()) == before


def test_the_documented_policy_is_enough_and_deleting_leaves_no_empty_object(
    least: tuple[Place, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ministack: str
) -> None:
    source, dest = least
    dest.check_writable()
    assert source.exists()
    assert not any(embed(source, dest).values())
    assert not any(embed(source, Folder(f"{tmp_path}/out")).values())
    (tmp_path / "local").mkdir()
    (tmp_path / "made").rename(tmp_path / "local" / "apple")
    assert not any(embed(Folder(f"{tmp_path}/local"), open_place(f"{dest.uri}/of_local")).values())
    for file in list(dest.files()):
        dest.delete(file.path)
    servers.use_s3(monkeypatch, ministack)
    assert f"/{tmp_path.name}" not in servers.aws(ministack, "s3", "GET", "/results?list-type=2")


def test_the_documented_policy_allows_nothing_else(least: tuple[Place, Place]) -> None:
    source, dest = least
    with pytest.raises(PermissionError, match="ACCESS_DENIED"):
        source.write("apple/new.jpg", b"x")
    with pytest.raises(PermissionError):
        source.delete("apple/1.jpg")
    for elsewhere in ("s3://private", "s3://results", "s3://results/other", "s3://photos", f"{dest.uri}2"):
        with pytest.raises(PermissionError, match=elsewhere):
            list(open_place(elsewhere).files())
        for act in (lambda p: p.read("x"), lambda p: p.write("x", b"x"), lambda p: p.delete("x")):
            with pytest.raises(PermissionError):
                act(open_place(elsewhere))
    with pytest.raises(SettingError, match=r"can be listed.*s3://private.*ACCESS_DENIED"):
        list_photos(open_place("s3://private/photos"), dest, 1)


def test_listing_goes_on_after_a_thousand_and_ignores_empty_folders(
    faulty: tuple[Proxy, Place], ministack: str
) -> None:
    proxy, place = faulty
    for i in range(2100):
        servers.aws(ministack, "s3", "PUT", f"/{place.uri[5:]}/many/{i % 2}/{i:04}.jpg")
    servers.aws(ministack, "s3", "PUT", f"/{place.uri[5:]}/many/empty/")
    servers.aws(ministack, "s3", "PUT", f"/{place.uri[5:]}/many/")
    assert len({file.path for file in place.files()}) == len(list(place.files("many"))) + 6 == 2106
    assert len([path for path in proxy.seen if "continuation-token" in path[1]]) == 4


def test_a_hundred_thousand_objects_are_listed_a_few_folders_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.wide_bucket(100, 1000) as bucket:
        servers.use_s3(monkeypatch, bucket.endpoint)
        files = open_place("s3://wide/photos").files()
        assert next(files).bytes == 7
        assert len(bucket.seen) < 30
        assert len({file.path for file in files}) == 99_999
        assert len(bucket.seen) == 101


def test_keys_that_no_file_system_could_hold_are_listed_once(faulty: tuple[Proxy, Place], ministack: str) -> None:
    _, place = faulty
    keys = ["x/a//b.jpg", "x//c.jpg", "x/d/.", "x/e/../f.jpg", "x/g/h.jpg", "x/g/h.jpg/i.jpg"]
    for key in keys:
        servers.aws(ministack, "s3", "PUT", f"/{place.uri[5:]}/{key}")
    assert sorted(file.path for file in place.files("x")) == sorted(keys)
    with pytest.raises(OSError, match="Empty path component"):
        place.read("x//c.jpg")


def test_requests_are_as_few_as_documented(faulty: tuple[Proxy, Place]) -> None:
    proxy, place = faulty
    place.read("apple/1.jpg")
    assert proxy.methods("1.jpg") == ["HEAD", "GET"]
    place.write("out/small", b"x" * 5_000_000)
    assert proxy.methods("out/small") == ["PUT"]
    place.delete("out/small")
    assert proxy.methods("/out/") == ["PUT", "HEAD", "DELETE"]


FAULTS = {
    "slow down": Fault(503, "SlowDown"),
    "too many": Fault(429, "TooManyRequests"),
    "internal": Fault(500, "InternalError"),
    "reset": Fault(reset=True),
    "half": Fault(half=True),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_passes(faulty: tuple[Proxy, Place], fault: Fault, tmp_path: Path) -> None:
    proxy, place = faulty
    proxy.rule = times(2, fault, "GET", "apple/1.jpg")
    assert place.read("apple/1.jpg") == (tmp_path / "made" / "1.jpg").read_bytes()
    assert proxy.methods("1.jpg").count("GET") == 3


def test_a_fault_told_in_more_bytes_than_the_photo_has_passes(faulty: tuple[Proxy, Place]) -> None:
    proxy, place = faulty
    place.write("apple/tiny.jpg", b"tiny")
    proxy.rule = times(2, FAULTS["slow down"], "GET", "tiny.jpg")
    assert place.read("apple/tiny.jpg") == b"tiny"


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_passes_in_an_open_file_too(faulty: tuple[Proxy, Place], fault: Fault, tmp_path: Path) -> None:
    proxy, place = faulty
    rows = pa.table({"path": [f"{i}.jpg" for i in range(9)], "bytes": range(9)})
    place.write("out/rows.parquet", table_bytes(rows))
    with place.open("out/rows.parquet") as opened, pq.ParquetFile(opened) as file:
        proxy.seen.clear()
        proxy.rule = times(2, fault, "GET", "rows.parquet")
        assert file.read(["bytes"]) == rows.select(["bytes"])
    assert proxy.methods("rows.parquet") == ["GET"] * 3


def test_a_store_that_never_answers_is_given_up(faulty: tuple[Proxy, Place], monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, place = faulty
    monkeypatch.setattr(stores, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(stores, "ATTEMPTS", 2)
    stores._connected.cache_clear()
    proxy.rule = times(99, Fault(wait=2), "GET", "1.jpg")  # less than the three seconds of S3's client
    with pytest.raises(OSError, match=r"s3://photos/.*Timeout"):
        place.read("apple/1.jpg")
    assert proxy.methods("1.jpg") == ["HEAD", "GET", "GET"]


def test_other_stores_get_our_patience(azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with servers.proxy(azurite) as proxy:
        use_azure(monkeypatch, proxy.endpoint)
        stores.connect("abfs", "faulty").create_dir("faulty")
        place = open_place(f"abfs://faulty@{servers.AZURITE_ACCOUNT}.dfs.core.windows.net/x")
        place.write("a", b"seven b")
        proxy.rule = times(2, Fault(429, "ServerBusy"), "GET", "x/a")
        assert place.read("a") == b"seven b"
        proxy.rule = times(1, Fault(404, "BlobNotFound"), "GET", "x/a")
        with pytest.raises(FileNotFoundError):
            place.read("a")
        proxy.rule = times(9, Fault(403, "AuthorizationFailure"), "HEAD", "x/a")
        with pytest.raises(PermissionError):
            place.read("a")
        monkeypatch.setattr(stores, "CALL_SECONDS", 0.5)
        proxy.rule = times(9, Fault(wait=3), "GET", "x/a")
        with pytest.raises(TimeoutError, match="no answer in time"):
            place.read("a")


def test_a_file_that_is_being_written_to_azure_does_not_show(azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_azure(monkeypatch, azurite)
    system = stores.connect("abfs", "whole")
    system.create_dir("whole")
    place = open_place(f"abfs://whole@{servers.AZURITE_ACCOUNT}.dfs.core.windows.net/x")
    place.write("a", b"old")

    def upload(system: pyarrow.fs.FileSystem, path: str, content: bytes) -> None:
        with system.open_output_stream(path, compression=None):
            assert place.read("a") == b"old"
        raise OSError(28, "No space left")

    monkeypatch.setattr("verger.bucket._upload", upload)  # nobody can stop an upload of Arrow's halfway otherwise
    with pytest.raises(OSError, match="No space left"):
        place.write("a", b"new")
    assert [(file.path, file.bytes) for file in place.files()] == [("a", 3)]


def test_photos_that_vanish_or_may_not_be_read_are_rows(faulty: tuple[Proxy, Place], tmp_path: Path) -> None:
    proxy, place = faulty
    denied = times(9, Fault(403, "AccessDenied"), "GET", "apple/2.jpg")
    gone = times(9, Fault(404, "NoSuchKey"), "GET", "pear/4.jpg")  # between its HEAD and its GET
    never = times(9, Fault(404, "NoSuchKey"), "HEAD", "pear/5.jpg")
    proxy.rule = lambda *asked: denied(*asked) or gone(*asked) or never(*asked)
    errors = embed(place, Folder(str(tmp_path / "out")))
    assert {path: error for path, error in errors.items() if error} == {
        "apple/2.jpg": "unreadable",
        "pear/4.jpg": "vanished",
        "pear/5.jpg": "vanished",
    }


def test_a_prefix_that_may_not_be_listed_is_named(faulty: tuple[Proxy, Place], tmp_path: Path) -> None:
    proxy, place = faulty
    proxy.rule = times(9, Fault(403, "AccessDenied"), "GET", "pear/")
    with pytest.raises(SettingError, match=r"can be listed.*pear.*ACCESS_DENIED"):
        list_photos(place, Folder(str(tmp_path)), 1)


@pytest.mark.parametrize(
    ("size", "request_that_fails"), [(1_000, "out/a"), (22_000_000, "partNumber=2")], ids=["one request", "many parts"]
)
def test_a_full_store_says_so_and_keeps_what_it_had(
    faulty: tuple[Proxy, Place], size: int, request_that_fails: str
) -> None:
    proxy, place = faulty
    place.write("out/a", b"old")
    proxy.rule = times(9, Fault(507, "InsufficientStorage"), "PUT", request_that_fails)
    with pytest.raises(OSError, match="InsufficientStorage"):
        place.write("out/a", b"x" * size)
    assert place.read("out/a") == b"old"
    assert [file.path for file in place.files("out")] == ["out/a"]


def test_a_run_into_a_full_store_goes_on_when_there_is_room(faulty: tuple[Proxy, Place]) -> None:
    proxy, place = faulty
    dest = open_place(f"{place.uri}/out")
    proxy.rule = times(1, Fault(507, "InsufficientStorage"), "PUT", "out/vectors")
    with pytest.raises((OSError, RunFailedError), match="InsufficientStorage"):
        embed(place, dest)
    assert not any(embed(place, dest).values())


def test_a_secret_of_azure_is_not_repeated() -> None:
    def refused() -> None:
        raise OSError("GetProperties failed for 'https://a.blob.core.windows.net/c/x?sp=r&sig=SeCrEt%3D' 403 Forbidden")

    with pytest.raises(PermissionError, match="sig=…") as raised:
        stores.patiently(refused, "abfs", "abfs://c@a/x")
    assert "SeCrEt" not in str(raised.value)
    assert raised.value.__context__ is None


@pytest.mark.spark
def test_a_whole_run_from_s3_to_s3(least: tuple[Place, Place], network: str, tmp_path: Path) -> None:
    source, dest = least
    command = [sys.executable, "-m", "verger", "run", source.uri, "--to", dest.uri, "--backbone", network]
    command += ["--image-size", "32", "--components", "2", "--master", "local[2]", "--normalisation", "raw"]
    environment = os.environ | {"PYTHONPATH": str(servers.ROOT)}
    for embedded, reused in ((6, 0), (0, 6)):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        photos = json.loads(dest.read("manifest.json"))["photos"]
        assert (photos["embedded"], photos["reused"]) == (embedded, reused)
    assert {"report.html", "model/projection.npz"} <= {file.path for file in dest.files()}
