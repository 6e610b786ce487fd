"""`verger serve`: the phone page, from the command line."""

import asyncio
import sys

import click

from verger.errors import MissingError
from verger.web.options import ServeOptions

DEFAULTS = ServeOptions()


@click.command()
@click.argument("dest")
@click.option("--host", default=DEFAULTS.host, show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=DEFAULTS.port, show_default=True, help="0 takes any free one.")
@click.option("--allow-remote", is_flag=True, help="Let --host be one that other machines reach, without encryption.")
@click.option(
    "--proxy",
    metavar="ADDRESS",
    show_default="nobody's",
    help="Address of a reverse proxy whose X-Forwarded-For is believed.",
)
@click.option(
    "--workers",
    type=int,
    show_default="one for each core",
    help="Processes that run the network, one thread each.",
)
@click.option(
    "--max-bytes",
    type=int,
    default=DEFAULTS.max_bytes,
    show_default=True,
    help="A larger upload is refused while it arrives.",
)
@click.option(
    "--max-pixels",
    type=int,
    default=DEFAULTS.max_pixels,
    show_default=True,
    help="A photo of more pixels is not decoded.",
)
@click.option(
    "--photos-per-minute",
    type=int,
    default=DEFAULTS.photos_per_minute,
    show_default=True,
    help="From one client, after ten at once; 0 sets no limit.",
)
def serve(dest: str, *, workers: int | None, **given: bool | int | str | None) -> None:
    """Serve the phone page: a photo in, the name of the fruit and its card out.

    No photo is kept, and none is logged. Ctrl-C stops the server.

    \b
    Example:
        verger serve out
    """
    options = ServeOptions(**given, workers=workers or DEFAULTS.workers)  # type: ignore[arg-type]  # click checked them
    try:
        from verger.web.server import serve as serve_until_stopped
    except ModuleNotFoundError as error:
        received = f"no package {error.name}"
        raise MissingError("FastAPI and Uvicorn", received, "Install them: pip install 'verger[web]'") from error
    limits = (str(options.max_bytes), str(options.max_pixels))
    command = [sys.executable, "-m", "verger.web.worker", dest, *limits]

    def say(address: str) -> None:
        click.echo(f"Verger answers on {address} (Ctrl-C stops it)", err=True)

    try:
        asyncio.run(serve_until_stopped(command, options, say))
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
