"""Photos from a folder into the bucket: in parallel, checked, without what they tell of people.

Nothing is remembered on the laptop: the bucket knows the digest of each photo it holds, and the same command goes on.
"""

import hashlib
import mimetypes
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verger.cloud.aws import CONNECTIONS, Aws, Request
from verger.cloud.strip import StripError, strip
from verger.errors import RunFailedError, SettingError, VergerError
from verger.photos import list_photos
from verger.stages import Progress
from verger.storage import open_place

if TYPE_CHECKING:
    from verger.cloud.foundation import Foundation

PHOTOS = "photos"  # prefix in the bucket
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
EXAMPLES = 5  # files named in a message


@dataclass
class Upload:
    """What an upload did."""

    uri: str
    sent: int = 0
    there: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # reason: how many
    examples: list[str] = field(default_factory=list)  # paths of some that could not be stripped

    @property
    def done(self) -> int:
        """How many photos are dealt with."""
        return self.sent + self.there


def upload(
    aws: Aws, foundation: "Foundation", directory: Path, name: str | None = None, progress: Progress = lambda _: None
) -> Upload:
    """Bring the photos of a folder to BUCKET/photos/NAME, each without EXIF and with its orientation.

    Args:
        aws: session.
        foundation: names the bucket, whose region is checked.
        directory: of photos; their paths below it become their keys.
        name: otherwise the folder's own.
        progress: called with the number of photos done.

    Raises:
        SettingError: the folder holds no photo, the name cannot be used, or the bucket lies elsewhere.
        RunFailedError: the upload had to stop; the same command goes on.
    """
    from verger.cloud.regions import check_bucket_region

    named = name or directory.resolve().name
    if not NAME.fullmatch(named):
        wanted = "a name of letters, digits, dots and dashes for the photos in the bucket"
        raise SettingError(wanted, repr(named), "Give one with --name.")
    prefix = f"{PHOTOS}/{named}"
    done = Upload(f"s3://{foundation.bucket_name}/{prefix}")
    listing = list_photos(open_place(str(directory)), open_place(done.uri), label_level=1)
    done.left_out = listing.left_out
    check_bucket_region(aws.client("s3"), foundation.bucket_name, aws.region, aws.account)
    pages = aws.pages("s3", "list_objects_v2", Bucket=foundation.bucket_name, Prefix=f"{prefix}/")
    sizes = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    bring = partial(_bring, aws, directory, foundation, prefix, sizes)
    paths = [photo.path for photo in listing.photos]
    with _pool() as pool:
        try:
            for path, outcome in zip(paths, pool.map(bring, paths), strict=True):
                _count(done, path, outcome)
                progress(done.done)
        except VergerError as error:
            reached = f"{error.received}; {done.done:,} of {len(paths):,} photos are there"
            raise RunFailedError(error.expected, reached, f"{error.advice} The same command goes on.") from error
    return done


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """As many threads as connections; whatever ends the block, those that have not begun never do."""
    pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="upload")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _count(done: Upload, path: str, outcome: str) -> None:
    if outcome in {"sent", "there"}:
        setattr(done, outcome, getattr(done, outcome) + 1)
    else:
        done.left_out[outcome] += 1
        if len(done.examples) < EXAMPLES:
            done.examples.append(path)


def _bring(
    aws: Aws, directory: Path, foundation: "Foundation", prefix: str, sizes: Mapping[str, int], path: str
) -> str:
    """Bring one photo. Returns "sent", "there", or why it was left out."""
    try:
        content = strip((directory / path).read_bytes())
    except StripError as error:
        return str(error)
    except OSError:
        return "cannot be read"
    digest = hashlib.sha256(content).hexdigest()
    known: dict[str, Any] = {"Bucket": foundation.bucket_name, "Key": f"{prefix}/{path}"}
    known["ExpectedBucketOwner"] = foundation.account
    same_size = sizes.get(known["Key"]) == len(content)
    if same_size and aws.read("s3", "head_object", **known)["Metadata"].get("sha256") == digest:
        return "there"
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    # S3 computes the checksum again from what arrived, and refuses a photo that was damaged on the way.
    checked = {"Body": content, "ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": digest}, "ContentType": kind}
    aws.send(Request("s3", "put_object", {**known, **checked}))
    return "sent"
