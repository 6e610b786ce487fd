"""Run the notebook from top to bottom, and keep what it showed: `render.py FOLDER --photos PHOTOS`.

FOLDER receives `verger.ipynb` with its outputs, `verger.html`, a page that opens without a network, and `out`, the
results of the run. The notebook itself is not touched: in git it has no outputs, so that what one reads there is what
runs.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
import pyspark
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter
from traitlets.config import Config

NOTEBOOK = Path(__file__).with_name("verger.ipynb")
TWO_MACHINES = "local-cluster[2,1,1024]"  # so that "once a machine" is seen, not only said
SPARK_FOLDERS = ("bin", "jars", "python")
DEFAULTS = "spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC\n"  # executors live for a minute
CELL_SECONDS = 3600  # more than a cell takes on ten thousand photos and a busy machine


def run_notebook(notebook: nbformat.NotebookNode, photos: Path, folder: Path) -> None:
    """Run every cell on `photos`, with results in `folder`/out; outputs are added to `notebook`.

    Raises:
        CellExecutionError: a cell failed; the message holds the cell and its traceback.
    """
    with tempfile.TemporaryDirectory() as home:
        for name in SPARK_FOLDERS:  # the workers of a local-cluster keep their files in SPARK_HOME/work
            (Path(home) / name).symlink_to(Path(pyspark.__file__).parent / name)
        (Path(home) / "conf").mkdir()
        (Path(home) / "conf" / "spark-defaults.conf").write_text(DEFAULTS)
        places = {"PHOTOS": str(photos.resolve()), "OUT": str((folder / "out").resolve())}
        spark = {"MASTER": TWO_MACHINES, "SPARK_HOME": home, "SPARK_LOCAL_IP": "127.0.0.1"}
        # Files instead of TCP ports between this process and the notebook's: nobody else can listen.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{home}/kernel"}})
        cwd = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=CELL_SECONDS, startup_timeout=300, config=config, resources=cwd).execute(
            env=os.environ | places | spark
        )


def to_page(notebook: nbformat.NotebookNode) -> str:
    """One HTML page that refers to nothing outside itself."""
    for cell in notebook.cells:  # what Java and TensorFlow write as they start was seen in the terminal
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
    exporter = HTMLExporter(require_js_url="", mathjax_url="", jquery_url="", mermaid_js_url="", language_code="fr")
    page, _ = exporter.from_notebook_node(notebook)
    return str(page).replace('<script src=""></script>', "")


def main() -> int:
    """The command line: 0 done, 1 a cell failed, 2 there are no photos. What was shown until then is written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    asked = parser.parse_args()
    if not asked.photos.is_dir():
        parser.error(f"expected a folder of photos. Received: {asked.photos}, which is none. Check PHOTOS=.")
    asked.folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    failure = None
    try:
        run_notebook(notebook, asked.photos, asked.folder)
    except CellExecutionError as error:
        failure = error
    nbformat.write(notebook, asked.folder / "verger.ipynb")
    page = asked.folder / "verger.html"
    page.write_text(to_page(notebook), encoding="utf-8")
    print(f"The notebook failed, up to there it is {page}:\n{failure}" if failure else f"The notebook: {page}")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
