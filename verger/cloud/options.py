"""What the commands of `verger cloud` share: options, a session, a foundation, a dry run, an end by signal."""

import json
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

if TYPE_CHECKING:
    from verger.cloud.aws import Aws, Request
    from verger.cloud.foundation import Foundation

console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)
REGION = "VERGER_REGION, AWS_REGION, AWS_DEFAULT_REGION, the profile's, eu-west-1"  # the first of these that is there
SHOWN = 3  # requests of one kind that a dry run prints in full


class Shower:
    """Prints what would be sent, as JSON; of many requests of one kind, the first three and a count."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, request: "Request") -> None:
        """Print one request."""
        self.counts[request.action] += 1
        if self.counts[request.action] <= SHOWN:
            sent = {"request": request.action, "parameters": dict(request.parameters)}
            click.echo(json.dumps(sent, indent=2, ensure_ascii=False, default=_shown))

    def close(self) -> None:
        """Say what was not printed."""
        for action, count in self.counts.items():
            if count > SHOWN:
                tell(f"… and {count - SHOWN:,} more {action}.")
        tell("Nothing was sent: this was a dry run.")


def _shown(value: object) -> str:
    return f"<{len(value):,} bytes>" if isinstance(value, bytes) else str(value)


def tell(line: str) -> None:
    """One line for people."""
    problems.print(line, markup=False, soft_wrap=True)


region_option = click.option("--region", show_default=REGION, help="A region of the EU.")
account_option = click.option(
    "--account", envvar="VERGER_ACCOUNT", help="Twelve digits: refuse the credentials of any other."
)
project_option = click.option(
    "--project",
    envvar="VERGER_PROJECT",
    default="verger",
    show_default=True,
    help="Begins the names of everything; a second foundation has a second project.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would be sent, and send nothing.")


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command has: region, account, project, dry run."""
    for option in (dry_run_option, project_option, account_option, region_option):
        command = option(command)
    return command


every_option = click.option(
    "--every", type=click.FloatRange(0.05, 300), default=15.0, show_default=True, help="Seconds between two looks."
)
max_eur_option = click.option(
    "--max-eur", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="Ceiling in euros."
)
nodes_option = click.option(
    "--nodes",
    type=click.IntRange(1, 50),
    default=2,
    show_default=True,
    help="Core nodes, or as many vCPUs of EMR Serverless.",
)
instance_option = click.option(
    "--instance",
    default="m5.xlarge",
    show_default=True,
    help="Type of the nodes; spot also takes others with as many vCPUs.",
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@contextmanager
def opened(given: dict[str, Any]) -> Iterator[tuple["Aws", "Foundation"]]:
    """A session and the foundation, for the options of `where`; says at the end what a dry run would have sent."""
    from verger.cloud.foundation import read_foundation

    with connected(given) as aws:
        yield aws, read_foundation(aws.client("cloudformation"), aws.region, aws.account, aws.project)


@contextmanager
def connected(given: dict[str, Any]) -> Iterator["Aws"]:
    """A session, for the options of `where`. Failures of boto3 that nobody explained are explained here."""
    from verger.cloud.aws import Request, explain, session

    shower = Shower()
    aws = session(given["region"], given["account"], given["project"], dry_run=given["dry_run"], show=shower)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield aws
    except (BotoCoreError, ClientError) as error:
        from botocore import xform_name

        operation = xform_name(getattr(error, "operation_name", "call"))
        raise explain(error, Request("aws", operation, {})) from error
    if aws.dry_run:
        shower.close()


def sure(question: str) -> bool:
    """Ask; yes if there is nobody to answer, or if the question itself is interrupted."""
    try:
        return not sys.stdin.isatty() or click.confirm(question, default=True, err=True)
    except click.Abort:
        return True


@contextmanager
def stoppable() -> Iterator[None]:
    """A closed terminal and a polite kill end a command as Ctrl-C does, but without a question."""
    from verger.cloud.ending import Killed

    def stop(*_: object) -> None:
        raise Killed

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
