"""Photos on their way to the bucket: no metadata goes along, no pixel changes, and the same command goes on."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pytest
from clouds import ACCOUNT, BUCKET, MINISTACK, MOTO, REGION, Cloud, lay_foundation, ministack
from PIL import ExifTags, Image, ImageOps, PngImagePlugin

from verger.cloud.aws import Aws, Request
from verger.cloud.foundation import read_foundation
from verger.cloud.strip import StripError, strip
from verger.cloud.upload import upload
from verger.errors import RunFailedError, SettingError

SECRETS = [b"Anna", b"GPS", b"Canon", b"xpacket", b"Rose Street", b"Exif\0\0II"]


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = {"RGB": 3, "RGBA": 4, "CMYK": 4, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode) if mode == "CMYK" else Image.fromarray(pixels.squeeze())


def exif(turn: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = turn
    tags[ExifTags.Base.Artist] = "Anna"
    tags[ExifTags.Base.Make] = "Canon"
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSAreaInformation] = "GPS of Rose Street"
    return tags


def saved(image: Image.Image, kind: str, turn: int, **given: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, exif=exif(turn), **given)
    return out.getvalue()


def jpeg(turn: int = 6, mode: str = "RGB", **given: object) -> bytes:
    """A JPEG with everything that phones add: EXIF, XMP, a comment, a maker's segment, and a film after its end."""
    content = saved(picture(mode), "JPEG", turn, comment=b"Anna", xmp=b"<?xpacket Rose Street?>", **given)
    maker = b"\xff\xed" + struct.pack(">H", 2 + 11) + b"Rose Street"
    return content[:2] + maker + content[2:] + b"a film of Anna"


def png(turn: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Anna")
    text.add_itxt("XML:com.adobe.xmp", "<?xpacket Rose Street?>")
    return saved(picture("RGBA"), "PNG", turn, pnginfo=text) + b"Anna"


FULL = {
    **{f"jpeg turned {turn}": jpeg(turn) for turn in range(1, 9)},
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_blocks=2),
    "CMYK": jpeg(mode="CMYK"),
    "grey": jpeg(mode="L"),
    "colour profile": jpeg(icc_profile=b"profile" * 20_000),
    "png": png(6),
    "upright png": png(1),
    "webp": saved(picture("RGB"), "WEBP", 6, xmp=b"<?xpacket Rose Street?>"),
    "webp with alpha": saved(picture("RGBA"), "WEBP", 3, lossless=True, xmp=b"<?xpacket Rose Street?>"),
}


@pytest.mark.parametrize("name", FULL)
def test_metadata_goes_and_pixels_stay(name: str) -> None:
    content = FULL[name]
    assert any(secret in content for secret in SECRETS)
    stripped = strip(content)
    assert [secret for secret in SECRETS if secret in stripped] == []
    before, after = Image.open(io.BytesIO(content)), Image.open(io.BytesIO(stripped))
    assert (before.mode, before.format) == (after.mode, after.format)
    assert np.array_equal(np.asarray(before), np.asarray(after))
    turned = [np.asarray(ImageOps.exif_transpose(image)) for image in (before, after)]
    assert np.array_equal(*turned)
    assert before.info.get("icc_profile") == after.info.get("icc_profile")
    assert set(after.getexif()) <= {ExifTags.Base.Orientation}
    assert strip(stripped) == stripped


def test_a_turn_that_only_xmp_knows_is_kept() -> None:
    out = io.BytesIO()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    picture().save(out, "JPEG", xmp=xmp)
    assert Image.open(io.BytesIO(strip(out.getvalue()))).getexif()[ExifTags.Base.Orientation] == 8


def test_a_second_picture_behind_the_first_goes() -> None:
    out = io.BytesIO()
    picture().save(out, "MPO", save_all=True, append_images=[picture(seed=1)], exif=exif(1))
    stripped = strip(out.getvalue())
    assert Image.open(io.BytesIO(stripped)).format == "JPEG"
    assert stripped.count(b"\xff\xd9") == 1


def test_a_bmp_has_nothing_to_take_away_but_what_follows_it() -> None:
    out = io.BytesIO()
    picture().save(out, "BMP")
    assert strip(out.getvalue() + b"Anna") == out.getvalue()


def test_a_photo_that_was_cut_short_stays_cut_short() -> None:
    whole = jpeg(1, quality=95)
    stripped = strip(whole[:-800])
    assert b"Anna" not in stripped
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(stripped)).load()


@pytest.mark.parametrize(
    "content", [b"", b"words", b"\xff\xd8", b"\xff\xd8\xff\xe1\xff", b"\xff\xd8words", jpeg()[:60], b"GIF89a", b"II*\0"]
)
def test_what_cannot_be_told_apart_does_not_travel(content: bytes) -> None:
    with pytest.raises(StripError):
        strip(content)


def test_real_photos_keep_every_pixel(real_photos: Path) -> None:
    for file in sorted(real_photos.rglob("*.jpg"))[::500]:
        content = file.read_bytes()
        before, after = (np.asarray(Image.open(io.BytesIO(each))) for each in (content, strip(content)))
        assert np.array_equal(before, after)


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
