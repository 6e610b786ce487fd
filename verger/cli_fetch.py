"""`verger fetch`: a public data set, from the command line."""

from pathlib import Path

import click
from rich.console import Console

from verger.errors import SettingError
from verger.stages import Stages
from verger.terminal import TerminalDisplay

console = Console(highlight=False)
problems = Console(stderr=True, highlight=False)
PARTS = {"training": ("Training",), "test": ("Test",), "all": ("Training", "Test")}


@click.command()
@click.argument("name")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--part", type=click.Choice(list(PARTS)), default="all", show_default=True, help="Which photos to keep.")
@click.option("--from", "archive", metavar="URL|FILE", help="Take the archive from a mirror, or from a file.")
def fetch(name: str, directory: Path, *, part: str, archive: str | None) -> None:
    """Download a public data set into DIRECTORY: fruits-360, the photos of the brief.

    Run it again to go on after an interruption, to add a part, or to check that the photos are as they were fetched.

    \b
    Example:
        verger fetch fruits-360 fruits
    """
    from verger.fetch import DATA_SETS
    from verger.fetch import fetch as fetch_data_set

    if name not in DATA_SETS:
        raise SettingError(f"a data set that Verger knows ({', '.join(DATA_SETS)})", repr(name), "Choose one of them.")
    data_set = DATA_SETS[name]
    with TerminalDisplay(problems) as display:
        receipt = fetch_data_set(data_set, directory, PARTS[part], archive or data_set.url, Stages(display))
    for folder in PARTS[part]:
        held, expected = receipt["parts"][folder], data_set.photos[folder]
        count = f"{held['photos']:,} photos of {len(held['classes'])} classes in {directory / folder}"
        differs = "" if held["photos"] == expected else f" (its author counts {expected:,})"
        console.print(f"{count}{differs}", soft_wrap=True)
    console.print(data_set.attribution, soft_wrap=True)
    console.print(f"Next: verger run {directory / PARTS[part][0]} --to out", soft_wrap=True)
