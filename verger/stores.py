"""The stores themselves: how to connect to each, how long to wait, what their errors mean.

Credentials, regions and endpoints come from where each store's own tools take them, and from nowhere else.
"""

import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from functools import lru_cache
from typing import TypeVar
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs

Result = TypeVar("Result")

WHOLE_UPLOADS = {"s3", "gs"}  # an object appears there when its upload is complete, and not before
KNOW_FOLDERS = {"s3", "abfs", "abfss", "hdfs"}  # Arrow's listing of gs: shows no folder that is only a prefix
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 15.0  # the second: without a single byte
ATTEMPTS = 5  # S3: back-off of 1, 2, 4, … seconds at most, each multiplied by a random number
CALL_SECONDS, SLOWEST_BYTES_PER_SECOND = 60.0, 100_000  # for one call where Arrow offers no time-out of its own
PAUSES = (0.5, 1.0, 2.0)  # seconds before another attempt, where Arrow makes none

_MISSING = re.compile(r"NO_SUCH_KEY|NO_SUCH_BUCKET|RESOURCE_NOT_FOUND|\b404 |HTTP status 404")
_DENIED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT|\b40[13] |HTTP status 40[13]|PERMISSION_DENIED"
)
_PASSING = re.compile(r"\b(429|500|502|503|504) |UNAVAILABLE|[Tt]imed? ?out|curl|[Rr]eset by peer")
# S3's client tries the rest again by itself. The second is any error whose text is longer than the object asked for.
_PASSING_ON_S3 = re.compile(r"HTTP status 429|flush response stream")
_SECRET = re.compile(r"\bsig=[^&'\"\s]+")  # of shared access signatures, which Azure's errors show

_lock = threading.Lock()


def connect(scheme: str, authority: str) -> fs.FileSystem:
    """The filesystem of a bucket, container or cluster; one a process, because none survives a fork."""
    with _lock:
        return _connected(scheme, authority, os.getpid())


@lru_cache(maxsize=64)
def _connected(scheme: str, authority: str, process: int) -> fs.FileSystem:  # noqa: ARG001
    if scheme == "s3":
        return _s3(authority, *s3_address(authority))
    if scheme == "gs":
        return _google()
    if scheme == "hdfs":
        host, _, port = authority.partition(":")
        return fs.HadoopFileSystem(f"hdfs://{host}", int(port or 0))
    return _azure(authority, os.environ)


def s3_address(bucket: str) -> tuple[str | None, str | None]:
    """Region and endpoint; None leaves the choice to the AWS SDK."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region and not endpoint:
        try:
            region = fs.resolve_s3_region(bucket)
        except (OSError, pa.ArrowException):  # a private network, for instance
            return None, None
    return region or "us-east-1", endpoint


def _s3(bucket: str, region: str | None, endpoint: str | None, within: str = "") -> fs.S3FileSystem:  # noqa: ARG001
    """S3 with its time-outs. Addresses with an endpoint have the bucket in their path; `within` goes before it."""
    address = urlsplit(endpoint or "")
    return fs.S3FileSystem(
        region=region,
        scheme=address.scheme or None,
        endpoint_override=f"{address.netloc}{address.path.rstrip('/')}{within}" if endpoint else None,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=ANSWER_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # one request for a small object instead of three
        tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE"),
    )


def delete_file(system: fs.FileSystem, scheme: str, authority: str, path: str) -> None:
    """Delete a file, and on S3 nothing but that.

    Arrow puts an empty object in the place of the folder from which it deleted, every time, unless that "folder" is
    the bucket itself. So S3 is told here that the bucket is the folder, in an address that leads to the same object.
    """
    above, _, name = path.rpartition("/")
    outer, _, folder = above.rpartition("/")
    region, endpoint = s3_address(authority) if scheme == "s3" and outer else (None, None)
    if region:
        with _lock:
            nearer = _s3_above(outer, region, endpoint or _path_style(region), os.getpid())
        nearer.delete_file(f"{folder}/{name}")
    else:
        system.delete_file(path)


@lru_cache(maxsize=64)
def _s3_above(outer: str, region: str, endpoint: str, process: int) -> fs.S3FileSystem:  # noqa: ARG001
    return _s3("", region, endpoint, f"/{quote(outer)}")


def _path_style(region: str) -> str:
    """The address of S3 in a region, for requests that name the bucket in their path."""
    domains = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}
    domain = next((domain for start, domain in domains.items() if region.startswith(start)), "amazonaws.com")
    return f"https://s3.{region}.{domain}"


def _google() -> fs.GcsFileSystem:
    emulator = urlsplit(os.environ.get("STORAGE_EMULATOR_HOST", ""))
    return fs.GcsFileSystem(
        anonymous=bool(emulator.netloc),  # otherwise Google's default credentials
        scheme=emulator.scheme or None,
        endpoint_override=emulator.netloc or None,
        retry_time_limit=timedelta(seconds=CALL_SECONDS),
    )


def _azure(authority: str, environment: Mapping[str, str]) -> fs.AzureFileSystem:
    """An account named in the address or the environment, with a key, a signature or the default credential."""
    host = authority.partition("@")[2]
    pairs = (pair.partition("=") for pair in environment.get("AZURE_STORAGE_CONNECTION_STRING", "").split(";"))
    given = {name: value for name, _, value in pairs}
    account = host.partition(".")[0] or given.get("AccountName") or environment.get("AZURE_STORAGE_ACCOUNT")
    if not account:
        raise OSError("Azure needs an account: abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/…")
    key = given.get("AccountKey") or environment.get("AZURE_STORAGE_KEY")
    signature = given.get("SharedAccessSignature") or environment.get("AZURE_STORAGE_SAS_TOKEN")
    options = {"account_key": key} if key else {"sas_token": f"?{signature.lstrip('?')}"} if signature else {}
    emulator = urlsplit(given.get("BlobEndpoint", ""))
    suffix = host[len(account) :]  # of another cloud than the public one
    if emulator.netloc and not emulator.netloc.startswith(f"{account}."):
        for service in ("blob", "dfs"):
            options |= {f"{service}_storage_authority": emulator.netloc, f"{service}_storage_scheme": emulator.scheme}
    elif suffix.startswith((".dfs.", ".blob.")):
        rest = suffix.partition(".")[2].partition(".")[2]
        options |= {"blob_storage_authority": f".blob.{rest}", "dfs_storage_authority": f".dfs.{rest}"}
    return fs.AzureFileSystem(account, **options)


def patiently(call: Callable[[], Result], scheme: str, uri: str, size: int = 0) -> Result:
    """`call()`, for as long as is sensible, and what it raises as an OSError that a person can read.

    S3's own client waits and tries again for nearly everything; elsewhere that is done here. Every call is one that may
    be repeated. `size` is the number of bytes that it has to send.
    """
    passing = _PASSING_ON_S3 if scheme == "s3" else _PASSING
    limit = None if scheme == "s3" else CALL_SECONDS + size / SLOWEST_BYTES_PER_SECOND
    threaded = scheme != "s3" or size
    for pause in (*PAUSES, None):
        try:
            return _explained((lambda: within(limit, call)) if threaded else call, uri)
        except (FileNotFoundError, PermissionError, TimeoutError):
            raise
        except OSError as error:
            if pause is None or not passing.search(str(error)):
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
    raise AssertionError("the last attempt returns or raises")


def within(seconds: float | None, call: Callable[[], Result]) -> Result:
    """`call()` in a thread of its own, which Ctrl-C does not interrupt halfway.

    Raises:
        TimeoutError: it took longer; the thread is left to its fate.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  (it is raised where the result is wanted)
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True, name="store").start()
    return outcome.result(seconds)


def _explained(call: Callable[[], Result], uri: str) -> Result:
    """Whatever Arrow raises, as an OSError: FileNotFoundError, PermissionError, or another with the store's reason."""
    try:
        return call()
    except FileNotFoundError:
        raise
    except TimeoutError as error:
        raise TimeoutError(f"{uri}: no answer in time") from error
    except (pa.ArrowException, OSError) as error:
        reason = f"{uri}: {_SECRET.sub('sig=…', str(error).strip())}"
    # Outside of the handler, so that the message with the secret is not chained to this one.
    if _MISSING.search(reason):
        raise FileNotFoundError(reason)
    raise PermissionError(reason) if _DENIED.search(reason) else OSError(reason)
