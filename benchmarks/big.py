"""Photos of 12 megapixels: Verger's decoding at reduced scale against decoding them whole, and what that changes."""

import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from picking import evenly
from PIL import Image

from verger.backbone import load_backbone
from verger.image import decode
from verger.photos import list_photos
from verger.settings import Settings
from verger.storage import Folder

SIZE = (4000, 3000)
QUALITY = 90


def enlarge(source: str, folder: Path, count: int) -> list[Path]:
    """Real photos, enlarged to those of a phone; made once, and found again by later rounds."""
    paths = evenly([photo.path for photo in list_photos(Folder(source), Folder(str(folder)), 1).photos], count)
    made = [folder / f"{number}.jpg" for number in range(len(paths))]
    folder.mkdir(parents=True, exist_ok=True)
    for path, target in zip(paths, made, strict=True):
        if not target.exists():
            with Image.open(Path(source, path)) as photo:
                large = photo.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
            large.save(target, "JPEG", quality=QUALITY)
    return made


def whole(content: bytes, side: int) -> NDArray[np.uint8]:
    """The photo decoded at its full size, then resized: the usual three lines of Pillow."""
    with Image.open(io.BytesIO(content)) as photo:
        return np.asarray(photo.convert("RGB").resize((side, side), Image.Resampling.BILINEAR))


def timed(work: Callable[[], NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], float]:
    """What it makes, and how long it takes in seconds."""
    start = time.perf_counter()
    pixels = work()
    return pixels, time.perf_counter() - start


def measure(source: str, name: str, weights: str | None, photos: int, folder: str) -> dict[str, Any]:
    """Seconds of both ways on every photo, in turns, and the cosine between the vectors of both."""
    backbone = load_backbone(name, weights=weights)
    network = backbone.load()
    side, limit = backbone.image_size, Settings(source=source, dest=tempfile.gettempdir()).limits.max_pixels
    seconds: dict[str, list[float]] = {"verger": [], "whole": []}
    cosines = []
    for number, path in enumerate(enlarge(source, Path(folder), photos)):
        content = path.read_bytes()
        ways = {"verger": lambda c=content: decode(c, side, limit).pixels, "whole": lambda c=content: whole(c, side)}
        pixels = {}
        for way in sorted(ways, reverse=bool(number % 2)):
            pixels[way], taken = timed(ways[way])
            seconds[way].append(round(taken, 5))
        a, b = (vector.astype(np.float64) for vector in network(np.stack([pixels["verger"], pixels["whole"]])))
        cosines.append(round(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), 6))
    return {"photos": len(cosines), "seconds": seconds, "cosines": cosines}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
