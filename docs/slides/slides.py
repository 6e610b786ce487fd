"""The slides as a PDF: `slides.py RUN FILE.pdf`, where RUN is DEST of a finished run.

Beside FILE.pdf a folder `slides` holds what went into it: the sources, `numbers.json` and the pictures.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import font_lato
import typst
from facts import gather

from verger.errors import VergerError

SOURCES = Path(__file__).parent
PAGE = SOURCES.parent / "pictures" / "page.jpg"


def build(run: str, pdf: Path) -> None:
    """Write the PDF. Nothing is fetched: Typst and the font are Python packages.

    Raises:
        SettingError: the run or a number is missing.
        typst.TypstError: a slide asks for a number that `facts.py` does not give; the message names it.
    """
    folder = pdf.parent / "slides"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in SOURCES.glob("*.typ"):
        shutil.copy(source, folder)
    shutil.copy(PAGE, folder)
    numbers = gather(run, folder)
    (folder / "numbers.json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False), encoding="utf-8")
    fonts = [font_lato.font_directory]
    pdf.write_bytes(typst.compile(str(folder / "verger.typ"), root=str(folder), font_paths=fonts))


def main() -> int:
    """The command line: 0 done, 2 something is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="DEST of a finished run")
    parser.add_argument("pdf", type=Path)
    asked = parser.parse_args()
    try:
        build(asked.run, asked.pdf)
    except VergerError as error:
        print(f"verger: {error}", file=sys.stderr)
        return error.exit_code
    print(f"The slides: {asked.pdf}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
