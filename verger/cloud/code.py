"""What nodes install: wheels and the bootstrap script, in the bucket once for each version of the code."""

import hashlib
import tempfile
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from verger import __version__
from verger.cloud.aws import Aws, Request
from verger.cloud.job import ROOT, build_wheels
from verger.cloud.run import Say

if TYPE_CHECKING:
    from verger.cloud.foundation import Foundation

CONSTRAINTS = ROOT / "constraints.txt"
CODE = "code"  # prefix in the bucket
COMPLETE = "complete"  # written last: a folder without it is an upload that was cut short


@cache
def version() -> str:
    """Verger's version, and a digest of its files: changed code is never taken for what lies in the bucket."""
    digest = hashlib.sha256()
    contents = _contents(files("verger"), "")
    if CONSTRAINTS.is_file():  # with other versions of what Verger needs, the wheels are others too
        contents.append((CONSTRAINTS.name, CONSTRAINTS.read_bytes()))
    for path, content in sorted(contents):
        digest.update(f"{path}\0{len(content)}\0".encode() + content)
    return f"{__version__}-{digest.hexdigest()[:12]}"


def _contents(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _contents(entry, f"{prefix}{entry.name}/")
        elif entry.is_file():
            found.append((prefix + entry.name, entry.read_bytes()))
    return found


def publish(aws: Aws, foundation: "Foundation", architecture: str, say: Say) -> str:
    """Make sure that this version's wheels for an architecture lie in the bucket.

    Args:
        aws: session.
        foundation: names the bucket.
        architecture: x86_64 or aarch64.
        say: tells people one line.

    Returns:
        The folder's URI.

    Raises:
        RunFailedError: a wheel is not to be had, or AWS refused.
    """
    prefix = f"{CODE}/{version()}-{architecture}"
    uri = f"s3://{foundation.bucket_name}/{prefix}"
    asked = {"Bucket": foundation.bucket_name, "Prefix": f"{prefix}/{COMPLETE}"}
    if aws.read("s3", "list_objects_v2", **asked).get("KeyCount"):
        return uri
    say(f"Bringing this version's wheels to {uri}. That takes a few minutes, once for each version.")
    if aws.dry_run:
        _put(aws, foundation, f"{prefix}/…", b"")
        return uri
    with tempfile.TemporaryDirectory(prefix="verger-") as folder:
        build_wheels(Path(folder), architecture)
        for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            _put(aws, foundation, f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
    _put(aws, foundation, f"{prefix}/{COMPLETE}", b"")
    return uri


def _put(aws: Aws, foundation: "Foundation", key: str, content: bytes) -> None:
    place = {"Bucket": foundation.bucket_name, "Key": key, "ExpectedBucketOwner": foundation.account}
    aws.send(Request("s3", "put_object", {**place, "Body": content, "ChecksumAlgorithm": "SHA256"}))
