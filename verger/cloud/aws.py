"""The one door to AWS: a session for one checked region and one known account; every failure becomes one message."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from verger import __version__
from verger.cloud.regions import check_region
from verger.errors import MissingError, RunFailedError, SettingError, VergerError
from verger.pricing.estimate import DEFAULT_REGION

if TYPE_CHECKING:
    import boto3

PROJECT = re.compile(r"[a-z][a-z0-9-]{1,18}[a-z0-9]")  # it begins the names of buckets, roles and schedules
CONNECTIONS = 32  # at a time: uploads share one client
# AWS offers no token that makes this call safe to repeat: a lost answer must not become a second cluster.
ONCE = frozenset({"run_job_flow"})
# Bills of the whole partition are asked for in one place. It reads figures and keeps nothing.
BILLING_REGION = "us-east-1"


class Request(NamedTuple):
    """One call that changes something: what `--dry-run` prints, and what is sent otherwise."""

    service: str  # boto3's name of the client
    operation: str  # boto3's name of the method
    parameters: Mapping[str, Any]

    @property
    def action(self) -> str:
        """The call as AWS's own documentation names it, `emr:RunJobFlow`."""
        return f"{self.service}:{''.join(word.capitalize() for word in self.operation.split('_'))}"


@dataclass(frozen=True)
class Aws:
    """A session for one region of the EU and one account.

    With `dry_run`, a request that would change something is given to `show` and not sent; reading goes on.
    """

    region: str
    account: str
    project: str
    session: "boto3.Session" = field(repr=False)
    dry_run: bool = False
    show: Callable[[Request], None] = field(default=lambda _: None, repr=False)
    _clients: dict[tuple[str, bool], Any] = field(default_factory=dict, repr=False, compare=False)

    def client(self, name: str, *, once: bool = False) -> Any:
        """A client of boto3, made once; with `once`, it never repeats a call."""
        if (name, once) not in self._clients:
            self._clients[name, once] = _client(self.session, name, self.region, attempts=1 if once else 5)
        return self._clients[name, once]

    def read(self, service: str, operation: str, **parameters: Any) -> Any:
        """The answer to a call that changes nothing. Raises SettingError or RunFailedError, as `explain`."""
        request = Request(service, operation, parameters)
        return _call(getattr(self.client(service), operation), request)

    def pages(self, service: str, operation: str, **parameters: Any) -> list[Any]:
        """All the pages of such an answer. Raises as `read`."""
        pages = self.client(service).get_paginator(operation).paginate(**parameters)
        return list(_call(lambda **_: list(pages), Request(service, operation, parameters)))

    def send(self, request: Request) -> Any:
        """Send a request that changes something, or show it if this is a dry run. Raises as `read`.

        Returns:
            The answer; None in a dry run.
        """
        if self.dry_run:
            self.show(request)
            return None
        client = self.client(request.service, once=request.operation in ONCE)
        return _call(getattr(client, request.operation), request)


def session(
    region: str | None = None,
    account: str | None = None,
    project: str = "verger",
    *,
    dry_run: bool = False,
    show: Callable[[Request], None] = lambda _: None,
) -> Aws:
    """A session with the credentials that boto3 finds, in a region of the EU.

    Args:
        region: otherwise VERGER_REGION, AWS_REGION, AWS_DEFAULT_REGION, the profile's, eu-west-1; always checked.
        account: the twelve digits that the credentials must belong to; None takes any.
        project: begins the names of everything in AWS.
        dry_run: nothing is changed; `show` receives what would be sent.
        show: see `dry_run`.

    Raises:
        MissingError: boto3 is not installed.
        SettingError: the region lies outside the EU, there are no credentials, or they are another account's.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise MissingError(
            "boto3, which talks to AWS", "a Python without it", "pip install 'verger[aws]' adds it."
        ) from None
    if not PROJECT.fullmatch(project):
        wanted = "a project's name of 3 to 20 small letters, digits and dashes, a letter first"
        raise SettingError(wanted, f"project={project!r}", "Choose another --project.")
    named = region or next(filter(None, map(os.environ.get, ("VERGER_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"))), "")
    try:
        opened = boto3.Session(region_name=named or None)
    except BotoCoreError as error:
        raise explain(error, Request("sts", "get_caller_identity", {})) from error
    checked = check_region(named or opened.region_name or DEFAULT_REGION)
    received = _call(_client(opened, "sts", checked).get_caller_identity, Request("sts", "get_caller_identity", {}))
    if account is not None and received["Account"] != account:
        advice = "Choose the profile of that account with AWS_PROFILE, or correct --account."
        raise SettingError(f"credentials of account {account}", f"those of account {received['Account']}", advice)
    return Aws(checked, received["Account"], project, opened, dry_run, show)


def _client(opened: "boto3.Session", name: str, region: str, attempts: int = 5) -> Any:
    from botocore.config import Config

    if name == "ce" and not region.startswith("eusc-"):
        region = BILLING_REGION
    config = Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=10,
        read_timeout=60,
        max_pool_connections=CONNECTIONS,
        user_agent_extra=f"verger/{__version__}",
    )
    return opened.client(name, region_name=region, config=config)


def _call(method: Callable[..., Any], request: Request) -> Any:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return method(**request.parameters)
    except (BotoCoreError, ClientError) as error:
        raise explain(error, request) from error


class UnreachableError(RunFailedError):
    """AWS did not answer. Whoever waits for a cluster may go on waiting."""


class DeniedError(RunFailedError):
    """AWS knows who asks, and does not let them."""


class _Kind(NamedTuple):
    """A kind of refusal: the codes that AWS gives it, and what our message says."""

    codes: frozenset[str]
    expected: str
    advice: str
    error: type[RunFailedError]


def _kind(codes: str, expected: str, advice: str, error: type[RunFailedError] = RunFailedError) -> _Kind:
    return _Kind(frozenset(codes.split()), expected, advice, error)


LOG_IN = "Log in again (aws sso login, or aws configure), and give the same command."
KINDS: Sequence[_Kind] = (
    _kind(
        "ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired InvalidClientTokenId"
        " UnrecognizedClientException InvalidAccessKeyId SignatureDoesNotMatch AuthFailure InvalidIdentityToken",
        "an AWS session that is still valid",
        LOG_IN,
    ),
    _kind(
        "AccessDenied AccessDeniedException UnauthorizedOperation AuthorizationError 403",
        "the permission for {action}",
        "Attach the foundation's user policy to your user (docs/emr.md says how).",
        DeniedError,
    ),
    _kind(
        "ServiceQuotaExceededException LimitExceededException LimitExceeded VcpuLimitExceeded InstanceLimitExceeded"
        " MaxSpotInstanceCountExceeded",
        "room within the account's quotas",
        "Ask for fewer --nodes, or for a higher quota: AWS console, Service Quotas, EC2.",
    ),
    _kind(
        "InsufficientInstanceCapacity InsufficientCapacity SpotMaxPriceTooLow",
        "free machines of the asked types",
        "Try again later, or in another --region.",
    ),
    _kind(
        "Throttling ThrottlingException TooManyRequestsException RequestLimitExceeded SlowDown",
        "AWS to take {action}",
        "AWS asks for patience: try again in a minute.",
    ),
)
# Families of botocore's errors, by name: importing them here would make boto3 necessary for --help.
CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "SSOError",
        "LoginError",
        "ProfileNotFound",
        "ConfigParseError",
    }
)
NETWORK = frozenset({"HTTPClientError", "ConnectionError"})


def explain(error: Exception, request: Request) -> VergerError:
    """One message for a failure of botocore: what was expected, what was received, what to do.

    AWS's own sentence is repeated, without the name of the user that it may hold.
    """
    families = {kind.__name__ for kind in type(error).__mro__}
    code, words = _words(error)
    if families & CREDENTIALS:
        return SettingError("credentials for AWS", words, LOG_IN)
    if families & NETWORK:
        return UnreachableError(
            f"AWS to answer {request.action}", words, "Check the network, and give the command again."
        )
    for kind in KINDS:
        if code in kind.codes:
            return kind.error(kind.expected.format(action=request.action), f"{code}: {words}", kind.advice)
    received = f"{code}: {words}" if code else words
    return RunFailedError(f"AWS to accept {request.action}", received, "Mend what it names, and try again.")


def _words(error: Exception) -> tuple[str, str]:
    """The code and the sentence of a failure; who asked is left out of it."""
    answer = (getattr(error, "response", None) or {}).get("Error", {})
    sentence = str(answer.get("Message") or error)
    sentence = re.sub(r"User: \S+ is not", "this user is not", sentence)
    sentence = re.sub(r"(?i)\s*encoded authorization failure message:.*", "", sentence)
    return str(answer.get("Code", "")), sentence.rstrip(". \n")
