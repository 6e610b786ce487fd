"""`verger explore`: a run as a map in the browser, from the command line."""

import asyncio
import webbrowser

import click
from rich.console import Console

from verger.errors import MissingError
from verger.manifest import read_manifest
from verger.settings import Limits
from verger.stages import Stages
from verger.storage import Place, open_place
from verger.terminal import TerminalDisplay

problems = Console(stderr=True, highlight=False)


@click.command()
@click.argument("dest")
@click.option("--port", type=int, default=8001, show_default=True, help="0 takes any free one.")
@click.option("--open", "in_browser", is_flag=True, help="Open the page in the browser.")
def explore(dest: str, *, port: int, in_browser: bool) -> None:
    """Show the photos of a finished run on a map: what lies near what, by label, with search and filters.

    The map is Embedding Atlas, a page that runs in the browser. It is served to this machine alone, and asks nothing of
    any other. Ctrl-C stops it.

    \b
    Example:
        verger explore out
    """
    try:
        from verger.explore.server import HOST, PHOTO_PATH, atlas_page, create_app, server
        from verger.web.options import ServeOptions
        from verger.web.server import address_of, listen
    except ModuleNotFoundError as error:
        received = f"no package {error.name}"
        raise MissingError("FastAPI and Uvicorn", received, "Install them: pip install 'verger[web]'") from error
    from verger.explore.rows import photo_table, read_rows

    page, place = atlas_page(), open_place(dest)
    manifest = read_manifest(place)
    with listen(ServeOptions(host=HOST, port=port)) as listener:
        rows = read_rows(place)
        address, source = address_of(listener), open_place(manifest["source"])
        pictures = address + PHOTO_PATH if _there(source) else None
        with TerminalDisplay(problems) as display, Stages(display)("neighbours", len(rows.paths)) as done:
            table = photo_table(rows, pictures, done)
        limits = Limits(int(manifest["settings"]["max_bytes"]), int(manifest["settings"]["max_pixels"]))
        app = create_app(page, table, source, limits)
        if rows.left_out:
            click.echo(f"Too many for one map: {rows.left_out:,} photos are left out, evenly.", err=True)
        if not pictures:
            click.echo(f"No pictures: the photos are not in {source.uri} any more.", err=True)
        click.echo(f"The map of {len(rows.paths):,} photos is on {address} (Ctrl-C stops it)", err=True)
        if in_browser:
            webbrowser.open(address)
        try:
            asyncio.run(server(app).serve([listener]))
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)


def _there(source: Place) -> bool:
    try:
        return source.exists()
    except OSError:
        return False
