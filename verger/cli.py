"""The command line: thin commands around library calls. Exit 0 done, 1 the run failed, 2 bad usage or setting."""

import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from verger import __version__, tables
from verger.backbone import builtin_backbones
from verger.cli_fetch import fetch
from verger.cli_recogniser import evaluate, recognise
from verger.cli_settings import read_config, settings_options
from verger.cloud.cli import cloud
from verger.errors import SettingError, VergerError
from verger.explore.command import explore
from verger.export import export_components, export_recogniser
from verger.forget import forget as forget_photos
from verger.manifest import read_manifest
from verger.pipeline import run as run_pipeline
from verger.sample import write_sample
from verger.settings import PRECISIONS, Settings
from verger.stages import Stages
from verger.storage import open_place
from verger.terminal import TerminalDisplay
from verger.web.command import serve

console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="verger %(version)s")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def cli(debug: bool) -> None:
    """Fruit photos to vectors, vectors to components, on one laptop or on a Spark cluster.

    \b
    Example:
        verger sample orchard
        verger run orchard --to out
    """


@cli.command()
@click.argument("source")
@click.option(
    "--to",
    "dest",
    metavar="DEST",
    required=True,
    envvar="VERGER_DEST",
    help="Folder or bucket that receives the results.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    callback=read_config,
    is_eager=True,
    expose_value=False,
    help="TOML file with settings, one `name = value` a line; the command line and VERGER_* come first.",
)
@settings_options
def run(**settings: Any) -> None:
    """Turn the photos of SOURCE into vectors, components and a report.

    Run it again after adding or changing photos: only those are embedded.

    \b
    Example:
        verger run photos --to out --components 50
    """
    chosen = Settings(**settings)
    with TerminalDisplay(problems) as display:
        manifest = run_pipeline(chosen, display=display)
    console.print(tables.closing(manifest, open_place(chosen.dest)))


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--awkward", is_flag=True, help="Add the odd and broken files that real life brings.")
@click.option(
    "--photos-per-kind",
    type=click.IntRange(1, 1000),
    default=12,
    show_default=True,
    help="How many photos of each kind of fruit.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same bytes.")
def sample(directory: Path, *, awkward: bool, photos_per_kind: int, seed: int) -> None:
    """Write the built-in orchard: a labelled set of rendered fruit photos.

    \b
    Example:
        verger sample orchard --awkward
    """
    with TerminalDisplay(problems) as display, Stages(display)("render") as done:
        count = write_sample(
            directory,
            photos_per_kind=photos_per_kind,
            seed=seed,
            awkward=awkward,
            progress=lambda written, _: done(written),
        )
    console.print(f"{count} files in {directory}", soft_wrap=True)


@cli.command()
@click.argument("dest")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest itself, for programs.")
def show(dest: str, *, as_json: bool) -> None:
    """Say what a finished run did.

    \b
    Example:
        verger show out
    """
    place = open_place(dest)
    manifest = read_manifest(place)
    if as_json:
        click.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
    else:
        console.print(tables.closing(manifest, place))


@cli.command()
@click.argument("dest")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--precision", type=click.Choice(PRECISIONS), help="Of the network in FILE.onnx; by default that of the run."
)
@click.option("--photos", metavar="SOURCE", help="Photos to calibrate int8 on; by default those of the run.")
def export(dest: str, file: Path, precision: str | None, photos: str | None) -> None:
    """Write what a finished run made to one FILE, by its ending.

    FILE.csv: the components, as path, label, c1, c2, … FILE.onnx: network, projection and recogniser in one graph, from
    pixels to probabilities, for any ONNX runtime; in int8 it has a third of the size, and is faster.

    \b
    Example:
        verger export out components.csv
        verger export out robot.onnx --precision int8
    """
    place = open_place(dest)
    if file.suffix.lower() == ".onnx":
        size = export_recogniser(place, file, precision, photos)
        console.print(f"{size / 1e6:.1f} MB in {file}")
    elif precision or photos:
        raise SettingError("FILE.onnx, with --precision or --photos", str(file), "Name FILE.onnx, or leave these out.")
    else:
        console.print(f"{export_components(place, file):,} photos in {file}")


@cli.command()
@click.argument("dest")
@click.argument("pattern")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt, for programs.")
def forget(dest: str, pattern: str, *, dry_run: bool, as_json: bool) -> None:
    """Remove photos from every table, and keep later runs from bringing them back.

    PATTERN is compared with whole paths below SOURCE; `*` matches slashes too. In a bucket of S3 that keeps older
    versions, these go too. The next run computes components without these photos, and writes a new report.

    \b
    Example:
        verger forget out 'apple/*' --dry-run
    """
    place = open_place(dest)
    receipt = forget_photos(place, pattern, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(receipt, indent=2))
    else:
        console.print(tables.forgotten(receipt, place, dry_run=dry_run), soft_wrap=True)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def backbones(*, as_json: bool) -> None:
    """List the built-in networks, and where their weights come from.

    \b
    Example:
        verger backbones
    """
    known = builtin_backbones()
    if as_json:
        click.echo(json.dumps([vars(info) for info in known], indent=2))
    else:
        console.print(tables.backbones(known))


cli.add_command(recognise)
cli.add_command(evaluate)
cli.add_command(serve)
cli.add_command(fetch)
cli.add_command(explore)
cli.add_command(cloud)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; every failure becomes one message and an exit code, without a traceback unless --debug."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if debug := "--debug" in arguments:  # accepted after the command's name too
        arguments.remove("--debug")
    try:
        cli.main(arguments, prog_name="verger", standalone_mode=False)
        code = 0
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (KeyboardInterrupt, click.Abort):
        _say("Stopped. What is done stays done: run the same command again to go on.", debug=debug)
        code = 130
    except VergerError as error:
        _say(str(error), debug=debug)
        code = error.exit_code
    except OSError as error:
        expected = f"Expected storage that can be read and written. Received: {error}."
        _say(f"{expected} What is done stays done: mend it, and run the same command again.", debug=debug)
        code = 1
    except Exception as error:  # noqa: BLE001  (the one place where anything else ends)
        _say(f"An error that Verger did not expect: {error!r}. --debug shows where; please report it.", debug=debug)
        code = 1
    sys.exit(code)


def _say(message: str, *, debug: bool) -> None:
    if debug:
        problems.print(traceback.format_exc(), markup=False)
    problems.print(f"verger: {message}", markup=False, soft_wrap=True)
