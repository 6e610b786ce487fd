"""Where things may lie: an explicit list of regions, because `eu-*` also matches London and Zurich."""

from typing import Any

from verger.errors import SettingError

# Regions inside the European Union that have EMR; the last is the European Sovereign Cloud, partition aws-eusc.
EU_REGIONS = ("eu-west-1", "eu-west-3", "eu-central-1", "eu-north-1", "eu-south-1", "eu-south-2", "eusc-de-east-1")
OUTSIDE = {"eu-west-2": "London, outside the EU", "eu-central-2": "Zurich, outside the EU"}
OLD_NAMES = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}  # GetBucketLocation's answers from before regions


def check_region(region: str) -> str:
    """The region itself, if it lies in the European Union and has EMR. Raises SettingError otherwise."""
    if region not in EU_REGIONS:
        where = f" ({OUTSIDE[region]})" if region in OUTSIDE else ""
        raise SettingError(
            f"a region inside the EU: {', '.join(EU_REGIONS)}",
            f"{region!r}{where}",
            "Choose one of them with --region, VERGER_REGION or AWS_REGION.",
        )
    return region


def check_bucket_region(s3_client: Any, bucket: str, region: str, account: str) -> None:
    """Ask S3 where a bucket lies and whose it is; its name proves neither.

    Args:
        s3_client: of boto3.
        bucket: its name.
        region: where it must lie, one of `EU_REGIONS`.
        account: the twelve digits of whom it must belong to.

    Raises:
        SettingError: it lies elsewhere, is somebody else's, or does not exist.
    """
    found = bucket_region(s3_client, bucket, account)
    if found is None:
        raise SettingError(f"the bucket {bucket}", "no bucket of this name", "Make it with `verger cloud setup`.")
    if found != region or found not in EU_REGIONS:
        raise SettingError(
            f"the bucket {bucket} in {check_region(region)}",
            f"it lies in {found}",
            "Use a bucket of that region, or the region of the bucket with --region.",
        )


def bucket_region(s3_client: Any, bucket: str, account: str) -> str | None:
    """The region that a bucket really lies in; None if there is no such bucket.

    Raises:
        SettingError: it belongs to another account, or may not be looked at.
    """
    from botocore.exceptions import ClientError

    try:
        headed = s3_client.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
        if headed.get("BucketRegion"):
            return str(headed["BucketRegion"])
        located = s3_client.get_bucket_location(Bucket=bucket, ExpectedBucketOwner=account)["LocationConstraint"]
        return OLD_NAMES.get(located) or str(located)
    except ClientError as error:
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 404:
            return None
        if status in (301, 400) and (elsewhere := answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")):
            return str(elsewhere)
        if status == 403:
            raise SettingError(
                f"a bucket {bucket} of account {account}, which this user may look at",
                "S3 refuses to show it: it is another account's, or this user may not, or the session has ended",
                "Log in again, as a user who may; if that does not help, choose another --project.",
            ) from error
        raise
