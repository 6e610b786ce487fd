"""Forgetting in a bucket that keeps older versions: real S3 requests, a real policy."""

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
import servers
from conftest import write_photo
from servers import Fault, Proxy, Rule
from test_forget import embed

from verger import RunFailedError, SettingError, stores
from verger.forget import forget
from verger.parts import read_index
from verger.storage import Place, open_place

pytestmark = pytest.mark.server
GONE = {f"apple/{i}.jpg" for i in range(3)}


@pytest.fixture
def root(ministack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client that may do everything, and a bucket with versions, named as the test's folder."""
    servers.use_s3(monkeypatch, ministack)
    client = boto3.client("s3", endpoint_url=f"http://{ministack}", region_name="us-east-1")
    client.create_bucket(Bucket=bucket(tmp_path))
    client.put_bucket_versioning(Bucket=bucket(tmp_path), VersioningConfiguration={"Status": "Enabled"})
    yield client
    client.close()


def bucket(tmp_path: Path) -> str:
    return f"versions-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"


@pytest.fixture
def dest(root: Any, tmp_path: Path) -> Place:
    """Three runs on photos that change, so that older parts are there as versions only."""
    place = open_place(f"s3://{bucket(tmp_path)}/out")
    photos = tmp_path / "photos"
    for change in range(3):
        for kind in ("apple", "pear"):
            for i in range(3):
                if change in (0, i):
                    write_photo(photos / kind / f"{i}.jpg", (40 * i, 90, 30 * change))
        embed(photos, place)
        place.write("report.html", b"with thumbnails")
    return place


def versions(root: Any, tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """Key and content of every version in the bucket, current or not."""
    for page in root.get_paginator("list_object_versions").paginate(Bucket=bucket(tmp_path)):
        for version in page.get("Versions", []):
            answer = root.get_object(Bucket=bucket(tmp_path), Key=version["Key"], VersionId=version["VersionId"])
            yield version["Key"], answer["Body"].read()


def paths_in_versions(root: Any, tmp_path: Path) -> set[str]:
    tables = [pq.read_table(io.BytesIO(body)) for key, body in versions(root, tmp_path) if key.endswith(".parquet")]
    return {path for table in tables for path in table["path"].to_pylist()}


@pytest.fixture
def proxy(ministack: str, monkeypatch: pytest.MonkeyPatch, dest: Place) -> Iterator[Proxy]:
    """What stands between us and the bucket from now on."""
    with servers.proxy(ministack) as between:
        servers.use_s3(monkeypatch, between.endpoint)
        yield between


def denied(part: str) -> Rule:
    return lambda _, path: Fault(403, "AccessDenied") if part in path else None


def test_no_version_of_a_forgotten_row_is_left_and_the_receipt_says_so(
    ministack: str, root: Any, dest: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert paths_in_versions(root, tmp_path) >= GONE
    older = sum(1 for _ in versions(root, tmp_path)) - sum(1 for _ in dest.files())
    assert older >= 3
    here = bucket(tmp_path)
    rights = servers.policy(f"{here}/photos", f"{here}/out", forgetting=True)
    servers.use_s3(monkeypatch, ministack, *servers.make_user(ministack, here, rights))
    stores._connected.cache_clear()
    stores._s3_above.cache_clear()
    assert forget(dest, "apple/*", dry_run=True)["versions"] >= older
    receipt = forget(dest, "apple/*")
    kept = {f"pear/{i}.jpg" for i in range(3)}
    assert paths_in_versions(root, tmp_path) == kept
    assert {path for part in read_index(dest) for path in part.rows["path"].to_pylist()} == kept
    assert not [body for _, body in versions(root, tmp_path) if body == b"with thumbnails"]
    assert receipt["photos"] == 3
    assert receipt["versions"] > older
    assert receipt["finished"]
    assert json.loads(dest.read(receipt["receipt"])) == receipt


def test_without_the_right_to_see_versions_no_row_is_touched(
    root: Any, dest: Place, tmp_path: Path, proxy: Proxy
) -> None:
    before = paths_in_versions(root, tmp_path)
    proxy.rule = denied("?versions")
    with pytest.raises(SettingError, match=r"see older versions.*AccessDenied.*s3:ListBucketVersions"):
        forget(dest, "apple/*")
    assert {path for part in read_index(dest) for path in part.rows["path"].to_pylist()} == before
    assert not list(dest.files("receipts"))


def test_a_forgetting_that_could_not_delete_versions_is_finished_by_the_same_call(
    root: Any, dest: Place, tmp_path: Path, proxy: Proxy
) -> None:
    proxy.rule = denied("?delete")
    with pytest.raises(RunFailedError, match=r"AccessDenied.*s3:DeleteObjectVersion.*forget the same again"):
        forget(dest, "apple/*")
    assert paths_in_versions(root, tmp_path) >= GONE
    proxy.rule = lambda _method, _path: None
    receipt = forget(dest, "apple/*")
    assert not paths_in_versions(root, tmp_path) & GONE
    assert receipt["versions"] >= 3
    receipts = [json.loads(dest.read(file.path)) for file in dest.files("receipts")]
    assert [r["photos"] for r in sorted(receipts, key=lambda r: r["receipt"])] == [3, 0]
    assert all(r["finished"] for r in receipts)
