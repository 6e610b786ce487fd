"""The embedding stage on slow storage: every read of a photo takes 40 ms longer, as it does from a bucket."""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picking import evenly
from pyspark import SparkContext

from verger.backbone import load_backbone
from verger.network import Backbone
from verger.parts import plan_parts
from verger.photos import Photo, list_photos
from verger.session import spark_context
from verger.settings import Settings
from verger.storage import Folder
from verger.vectors import embed_parts

DELAY_SECONDS = 0.04


@dataclass(frozen=True)
class SlowFolder(Folder):
    """A folder on a disk that is far away. Travels to the workers by value, as all classes of a script do."""

    delay: float = DELAY_SECONDS

    def read(self, path: str) -> bytes:
        """A photo, after a while."""
        time.sleep(self.delay)
        return super().read(path)


def rate(context: SparkContext, source: Folder, photos: list[Photo], backbone: Backbone) -> float:
    """Photos a second of one embedding stage."""
    with tempfile.TemporaryDirectory(prefix="verger-bench-") as folder:
        settings = Settings(source=source.root, dest=folder)
        parts = plan_parts(photos, settings.part_photos, context.defaultParallelism, backbone.fingerprint)
        start = time.perf_counter()
        result = embed_parts(context, (source, Folder(folder)), parts, backbone, settings, lambda _: None)
        seconds = time.perf_counter() - start
    if result.embedded != len(photos):
        raise SystemExit(f"expected {len(photos)} embedded photos, received {result.embedded}")
    return round(len(photos) / seconds, 2)


def measure(source: str, name: str, weights: str | None, photos: int, passes: int) -> dict[str, Any]:
    """Photos a second with the delay and without, in turns."""
    near, far = Folder(source), SlowFolder(source)
    backbone = load_backbone(name, weights=weights)
    picked = evenly(list_photos(near, Folder(str(Path(source, "…"))), 1).photos, photos)
    with spark_context(None) as context:
        for place in (near, far):
            rate(context, place, evenly(picked, 64), backbone)  # not counted: workers start and load the network
        figures = []
        for number in range(passes):
            order = (near, far) if number % 2 == 0 else (far, near)
            rates = {place: rate(context, place, picked, backbone) for place in order}
            figures.append({"near": rates[near], "far": rates[far]})
    return {"photos": len(picked), "delay_seconds": DELAY_SECONDS, "passes": figures}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
