"""Hostile photos at the page's server: `python benchmarks/mutated.py DEST PHOTO... [--count 10000] [--seed 0]`.

With MALLOC_MMAP_THRESHOLD_=16384 and MALLOC_TRIM_THRESHOLD_=16384 in the environment, what is let go of goes back to
the system at once: then memory that grows is memory that is kept.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from serving import ask, command_of, say, serving

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from mutations import mutations, whole_files

SIDE_PIXELS = 160
CLIENTS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dest")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    files = []
    for photo in asked.photos:
        with Image.open(photo) as image:
            files += whole_files(np.asarray(image.convert("RGB").resize((SIDE_PIXELS, SIDE_PIXELS))))
    with serving(command_of(asked.dest)) as server:
        told = ask(server, mutations(files, asked.count, asked.seed), CLIENTS)
        say(told, server)
    sys.exit(not set(told.statuses) <= {200, 400, 413, 415, 422})


if __name__ == "__main__":
    main()
