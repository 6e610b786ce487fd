"""Everything that a versioned bucket holds: objects, their older versions, marks of deletion, unfinished uploads."""

from dataclasses import dataclass
from typing import Any

from verger.errors import RunFailedError


@dataclass(frozen=True)
class Contents:
    """How much a bucket holds.

    Attributes:
        objects: that a listing shows.
        older: versions that were replaced or deleted; they are billed too.
        uploads: unfinished; their parts are billed too.
        bytes: of objects and older versions.
    """

    objects: int
    older: int
    uploads: int
    bytes: int

    def __bool__(self) -> bool:
        return bool(self.objects or self.older or self.uploads)

    def __str__(self) -> str:
        megabytes = self.bytes / 1e6
        return f"{self.objects:,} objects, {self.older:,} older versions, {self.uploads:,} uploads, {megabytes:,.1f} MB"


def look_into(s3_client: Any, bucket: str, account: str) -> Contents:
    """Count what a bucket holds, older versions included. Marks of deletion count as older versions of no bytes."""
    objects = older = size = 0
    for page in s3_client.get_paginator("list_object_versions").paginate(Bucket=bucket, ExpectedBucketOwner=account):
        versions = page.get("Versions", [])
        current = sum(version["IsLatest"] for version in versions)
        objects += current
        older += len(versions) - current + len(page.get("DeleteMarkers", []))
        size += sum(version["Size"] for version in versions)
    uploads = s3_client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, ExpectedBucketOwner=account)
    return Contents(objects, older, sum(len(page.get("Uploads", [])) for page in uploads), size)


def empty(s3_client: Any, bucket: str, account: str) -> None:
    """Delete all that a bucket holds, all versions of it. Raises RunFailedError if S3 keeps something."""
    owner = {"Bucket": bucket, "ExpectedBucketOwner": account}
    for page in s3_client.get_paginator("list_multipart_uploads").paginate(**owner):
        for upload in page.get("Uploads", []):
            s3_client.abort_multipart_upload(**owner, Key=upload["Key"], UploadId=upload["UploadId"])
    for page in s3_client.get_paginator("list_object_versions").paginate(**owner):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if not found:
            continue
        names = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in found]
        kept = s3_client.delete_objects(**owner, Delete={"Objects": names, "Quiet": True}).get("Errors", [])
        if kept:
            raise RunFailedError(
                f"everything in {bucket} deleted",
                f"{len(kept)} objects stay, the first: {kept[0]['Key']}: {kept[0].get('Message', kept[0].get('Code'))}",
                "What is left is billed as storage. Mend what it names, and give the same command again.",
            )
