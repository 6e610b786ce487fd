"""Older versions of objects, which a bucket may keep. Arrow cannot see them; S3's own library can.

On S3 with versioning, deleting an object only hides it, and replacing one keeps the old content. Whoever is to be
forgotten has to go from there too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from verger.bucket import Bucket
from verger.errors import MissingError, RunFailedError, SettingError
from verger.storage import Place
from verger.stores import ANSWER_SECONDS, ATTEMPTS, CONNECT_SECONDS, s3_address

NEEDED = "s3:ListBucketVersions on the bucket and s3:DeleteObjectVersion on its objects (docs/storage.md)"


@dataclass(frozen=True)
class OlderVersions:
    """Every version of every object in DEST but the current ones, whichever run or day they are from."""

    client: Any  # boto3's, of S3
    bucket: str
    prefix: str

    def count(self) -> int:
        """How many there are. Raises SettingError if they may not be seen."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return sum(map(len, self._pages()))
        except (BotoCoreError, ClientError) as error:
            advice = f"Allow {NEEDED}, and do it again: nothing was changed."
            raise SettingError(f"to see older versions in {self.bucket}", str(error), advice) from error

    def remove(self) -> int:
        """Delete them; returns how many. Raises RunFailedError if some of them stay."""
        from botocore.exceptions import BotoCoreError, ClientError

        removed = 0
        try:
            for page in self._pages():
                answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": page, "Quiet": True})
                if refused := answer.get("Errors", []):
                    self._fail(f"{len(refused)} of {len(page)} refused: {refused[0].get('Message')}")
                removed += len(page)
        except (BotoCoreError, ClientError) as error:
            self._fail(str(error))
        return removed

    def _pages(self) -> Iterator[list[dict[str, str]]]:
        """A thousand at most at a time. What hides a deleted object stays: without it, an older version would show."""
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=self.prefix)
        for page in pages:
            older = [v for kind in ("Versions", "DeleteMarkers") for v in page.get(kind, []) if not v["IsLatest"]]
            if older:
                yield [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in older]

    def _fail(self, reason: str) -> None:
        advice = f"Allow {NEEDED}, and forget the same again: the list already keeps these photos out."
        raise RunFailedError(f"to delete every older version in {self.bucket}", reason, advice)


def older_versions(dest: Place) -> OlderVersions | None:
    """The older versions that DEST's store keeps; None where it keeps none, or where only its own tools reach them.

    Raises:
        MissingError: DEST is on S3, and the extra that reaches them is not installed.
    """
    if not isinstance(dest, Bucket) or dest.scheme != "s3":
        return None
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        advice = "Install it: pip install 'verger[aws]'"
        raise MissingError("boto3, to reach older versions of objects on S3", "none", advice) from error
    region, endpoint = s3_address(dest.authority)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=ANSWER_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        s3={"addressing_style": "path" if endpoint else "auto"},
    )
    client = boto3.client("s3", region_name=region, endpoint_url=endpoint, config=config)
    return OlderVersions(client, dest.authority, f"{dest.key}/" if dest.key else "")
