"""The page's server in a process of its own, with the workers of orchard_worker.py; and what its tests send to it."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent


@contextlib.contextmanager
def running_server(means: Path, log: Path, folder: Path | None = None, **options: Any) -> Iterator[str]:
    """A server, from when it answers until it is ended by its id. Yields its address.

    Args:
        means: what `orchard_worker.learn` wrote.
        log: receives what it says of errors.
        folder: where it works, and where its temporary files would go.
        options: of `ServeOptions`.
    """
    from servers import expect_the_mark  # the server itself, which is this file too, does not need it

    expect_the_mark()
    command = [sys.executable, __file__, str(means), json.dumps({"port": 0, "workers": 1, **options})]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    if folder:
        environment |= {"TMPDIR": str(folder), "HOME": str(folder)}
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=folder)
    assert process.stdout
    try:
        address = process.stdout.readline().decode().strip()
        assert address, log.read_text()
        yield address
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def plain(colour: tuple[int, int, int], side: int = 64) -> bytes:
    """A PNG of one colour."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    from verger.web.options import ServeOptions
    from verger.web.server import serve

    chosen = ServeOptions(**json.loads(sys.argv[2]))
    limits = (str(chosen.max_bytes), str(chosen.max_pixels))
    worker = [sys.executable, str(HERE / "orchard_worker.py"), sys.argv[1], *limits]
    asyncio.run(serve(worker, chosen, lambda address: print(address, flush=True)))  # noqa: T201
