"""Photos on their way to the bucket: no metadata goes along, and the same command goes on."""

import io
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from clouds import ACCOUNT, BUCKET, MINISTACK, MOTO, REGION, Cloud, lay_foundation, ministack
from test_strip import jpeg

from verger.cloud.aws import Aws, Request
from verger.cloud.foundation import read_foundation
from verger.cloud.strip import strip
from verger.cloud.upload import upload
from verger.errors import RunFailedError, SettingError

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    if not MINISTACK.exists() or not MOTO.exists():
        pytest.skip("needs MiniStack and moto: scripts/servers installs them")
    with ministack(tmp_path_factory.mktemp("ministack")) as endpoint:
        cloud = Cloud(endpoint, endpoint)
        lay_foundation(cloud)
        yield cloud


@pytest.fixture
def aws(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Aws:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return Aws(REGION, ACCOUNT, "verger", boto3.Session(region_name=REGION))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos with metadata, in two folders, and two files that must not travel."""
    for path in ("Apple/1.jpg", "Apple/2.jpg", "Pear, green/é 1.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(jpeg())
    (tmp_path / "Apple" / "broken.jpg").write_bytes(b"Anna lives in Rose Street")
    (tmp_path / "Apple" / "notes.txt").write_text("Anna lives in Rose Street")
    return tmp_path


def objects(cloud: Cloud, prefix: str) -> dict[str, bytes]:
    s3 = cloud.client("s3")
    found = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {each["Key"]: s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in found}


def test_an_upload_brings_photos_without_metadata_and_the_next_brings_nothing(
    cloud: Cloud, aws: Aws, folder: Path
) -> None:
    foundation = read_foundation(aws.client("cloudformation"), REGION, ACCOUNT)
    done = upload(aws, foundation, folder, "first")
    assert (done.sent, done.there, done.uri) == (3, 0, f"s3://{BUCKET}/photos/first")
    assert done.left_out == {".txt": 1, "not a JPEG, PNG, WebP or BMP": 1}
    assert done.examples == ["Apple/broken.jpg"]
    there = objects(cloud, "photos/first/")
    assert set(there) == {f"photos/first/{path}" for path in ("Apple/1.jpg", "Apple/2.jpg", "Pear, green/é 1.jpg")}
    assert {content == strip(jpeg()) for content in there.values()} == {True}

    (folder / "Apple" / "2.jpg").write_bytes(jpeg(3))  # of the same size
    again = upload(aws, foundation, folder, "first")
    assert (again.sent, again.there) == (1, 2)
    assert objects(cloud, "photos/first/Apple/2.jpg")["photos/first/Apple/2.jpg"] == strip(jpeg(3))


def test_an_upload_that_stops_says_how_far_it_came_and_goes_on(cloud: Cloud, aws: Aws, folder: Path) -> None:
    foundation = read_foundation(aws.client("cloudformation"), REGION, ACCOUNT)
    aws.client("s3").meta.events.register("before-send.s3.PutObject", refuse_pears)
    with pytest.raises(RunFailedError, match=r"ExpiredToken.*; 2 of 4 photos are there.*The same command goes on"):
        upload(aws, foundation, folder, "stopped")
    fresh = Aws(REGION, ACCOUNT, "verger", boto3.Session(region_name=REGION))
    done = upload(fresh, foundation, folder, "stopped")
    assert (done.sent, done.there) == (1, 2)


def refuse_pears(request: object, **_: object) -> object:
    """S3's answer to a session that has expired meanwhile."""
    from botocore.awsrequest import AWSResponse

    if "Pear" not in request.url:  # type: ignore[attr-defined]
        return None
    body = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

    class Raw(io.BytesIO):
        def stream(self, *_: object, **__: object) -> Iterator[bytes]:
            yield self.read()

    return AWSResponse(request.url, 400, {}, Raw(body))  # type: ignore[attr-defined]


def test_a_dry_run_sends_nothing(cloud: Cloud, aws: Aws, folder: Path) -> None:
    foundation = read_foundation(aws.client("cloudformation"), REGION, ACCOUNT)
    shown: list[Request] = []
    dry = Aws(REGION, ACCOUNT, "verger", aws.session, dry_run=True, show=shown.append)
    assert upload(dry, foundation, folder, "dry").sent == 3
    assert [request.action for request in shown] == ["s3:PutObject"] * 3
    assert objects(cloud, "photos/dry/") == {}


@pytest.mark.parametrize("name", ["a/b", "..", "-x", "x" * 64])
def test_a_name_that_is_no_folder_of_a_bucket_is_refused(aws: Aws, folder: Path, name: str) -> None:
    foundation = read_foundation(aws.client("cloudformation"), REGION, ACCOUNT)
    with pytest.raises(SettingError, match="--name"):
        upload(aws, foundation, folder, name)
