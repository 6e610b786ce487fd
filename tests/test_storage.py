import os
from pathlib import Path

import pyarrow as pa
import pyarrow.fs
import pytest

from verger import SettingError, stores
from verger.bucket import Bucket
from verger.storage import Folder, open_place, path_within

ODD_NAMES = ["a b.jpg", "é.jpg", "100%.jpg", "a%20b.jpg", "a#b.jpg", "a+b.jpg", "a?b.jpg", "a\nb.jpg"]


def test_uris_name_places() -> None:
    assert open_place("/tmp/a b#c%20") == Folder("/tmp/a b#c%20")
    assert open_place("file:///tmp/a%20b") == Folder("/tmp/a b")
    assert open_place("photos") == Folder(f"{Path.cwd()}/photos")
    assert open_place("s3a://bucket/some/key/") == Bucket("s3", "bucket", "some/key")
    assert open_place("s3://bucket").uri == "s3://bucket"


@pytest.mark.parametrize("uri", ["ftp://host/photos", "s3://", "s3:///photos"])
def test_a_uri_of_no_known_place_is_refused(uri: str) -> None:
    with pytest.raises(SettingError, match=r"s3://my-bucket"):
        open_place(uri)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_listed_and_read_back(tmp_path: Path, name: str) -> None:
    place = Folder(str(tmp_path))
    place.write(f"x/{name}", b"seven b")
    assert [(file.path, file.bytes) for file in place.files()] == [(f"x/{name}", 7)]
    assert place.read(f"x/{name}") == b"seven b"


def test_listing_follows_links_but_not_in_circles_or_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"1")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "circle").symlink_to(tmp_path)
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone")
    assert sorted(file.path for file in Folder(str(tmp_path)).files()) == ["a/1.jpg", "b/1.jpg"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Folder(str(tmp_path))
    place.write("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)  # a full disk cannot be had in a test otherwise
    with pytest.raises(OSError, match="No space left"):
        place.write("a", b"new")
    assert place.read("a") == b"old"
    assert [file.path for file in place.files()] == ["a"]


def test_deleting_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    Folder(str(tmp_path)).delete("gone")


def test_files_of_a_folder_that_does_not_exist_are_none(tmp_path: Path) -> None:
    assert list(Folder(str(tmp_path)).files("gone")) == []


def test_a_place_that_cannot_be_written_says_so_and_stays_clean(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        Folder(f"{tmp_path}/file/out").check_writable()
    Folder(f"{tmp_path}/new/out").check_writable()
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208


def test_a_place_lies_within_itself_and_what_is_above(tmp_path: Path) -> None:
    photos = open_place("/data/photos")
    assert path_within(photos, photos) == ""
    assert path_within(photos, open_place("/data/photos/out/x")) == "out/x"
    assert path_within(photos, open_place("/data/photos2")) is None
    assert path_within(photos, open_place("s3://data/photos")) is None
    assert path_within(open_place("s3://b/k"), open_place("s3a://b/k/x")) == "x"
    (tmp_path / "photos").mkdir()
    (tmp_path / "a_longer_name").symlink_to(tmp_path / "photos")
    link = Folder(f"{tmp_path}/a_longer_name")
    assert path_within(link, Folder(f"{tmp_path}/photos/out")) == "out"


@pytest.mark.parametrize("uri", ["s3://AKIAX:secret@bucket/photos", "gs://user@bucket/x", "hdfs://a:secret@host/x"])
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(SettingError, match="without credentials") as raised:
        open_place(uri)
    assert "secret" not in str(raised.value)


def test_an_azure_container_is_no_credential() -> None:
    assert open_place("abfss://photos@account.dfs.core.windows.net/x").uri.endswith("account.dfs.core.windows.net/x")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """HDFS in a local folder: Arrow's own filesystem interface, because libhdfs comes with a Hadoop installation."""
    monkeypatch.setattr(stores, "connect", lambda *_: pyarrow.fs.LocalFileSystem())
    (tmp_path / "key" / "a").mkdir(parents=True)
    return Bucket("hdfs", "host:8020", f"{tmp_path}/key".strip("/"))


def test_a_bucket_lists_reads_writes_and_deletes(bucket: Bucket) -> None:
    assert bucket.exists()
    bucket.check_writable()
    bucket.write("a/é #+%.jpg", b"seven b")
    bucket.write("b/c/d/e/f.gz", b"not compressed")
    assert sorted((file.path, file.bytes) for file in bucket.files()) == [("a/é #+%.jpg", 7), ("b/c/d/e/f.gz", 14)]
    assert list(bucket.files("gone")) == []
    assert bucket.read("a/é #+%.jpg") == b"seven b"
    assert bucket.read("b/c/d/e/f.gz") == b"not compressed"
    with bucket.open("a/é #+%.jpg") as file:
        assert file.read_at(1, 6) == b"b"
    bucket.delete("a/é #+%.jpg")
    bucket.delete("a/é #+%.jpg")
    with pytest.raises(FileNotFoundError):
        bucket.read("a/é #+%.jpg")


def test_a_wide_listing_holds_few_folders_at_a_time(bucket: Bucket, tmp_path: Path) -> None:
    for i in range(300):
        (tmp_path / "key" / f"{i // 100}" / f"{i}").mkdir(parents=True)
        (tmp_path / "key" / f"{i // 100}" / f"{i}" / "x.jpg").write_bytes(b"x")
    (tmp_path / "key" / "y.jpg").write_bytes(b"y")
    found = bucket.files()
    assert next(found).path == "y.jpg"  # of the first level, before the others are listed
    assert len(set(found)) == 300


def test_what_arrow_raises_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: str) -> None:
        raise pa.ArrowException("no credentials")

    monkeypatch.setattr(stores, "connect", broken)
    with pytest.raises(OSError, match=r"abfs://c@a/k: no credentials"):
        Bucket("abfs", "c@a", "k").exists()


@pytest.mark.parametrize(
    ("endpoint", "region", "expected"),
    [
        ("http://127.0.0.1:9000", None, ("us-east-1", "http://127.0.0.1:9000")),
        ("http://127.0.0.1:9000", "eu-west-3", ("eu-west-3", "http://127.0.0.1:9000")),
        (None, "eu-west-3", ("eu-west-3", None)),
    ],
)
def test_s3_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, endpoint: str | None, region: str | None, expected: tuple[str, str | None]
) -> None:
    for name, value in (("AWS_ENDPOINT_URL", endpoint), ("AWS_DEFAULT_REGION", region)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    assert stores.s3_address("bucket") == expected
    assert stores._path_style("eusc-de-east-1") == "https://s3.eusc-de-east-1.amazonaws.eu"


def test_azure_takes_its_account_from_the_address_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(stores.fs, "AzureFileSystem", lambda account, **options: made.append((account, options)))
    stores._azure("c@one.dfs.core.windows.net", {})
    stores._azure("c", {"AZURE_STORAGE_ACCOUNT": "two", "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=x"})
    stores._azure("c@three.dfs.core.chinacloudapi.cn", {"AZURE_STORAGE_KEY": "a2V5"})
    public = {"blob_storage_authority": ".blob.core.windows.net", "dfs_storage_authority": ".dfs.core.windows.net"}
    china = {name: value.replace("windows.net", "chinacloudapi.cn") for name, value in public.items()}
    assert made == [("one", public), ("two", {"sas_token": "?sv=1&sig=x"}), ("three", {"account_key": "a2V5"} | china)]
    with pytest.raises(OSError, match=r"abfs://CONTAINER@ACCOUNT"):
        stores._azure("c", {})
