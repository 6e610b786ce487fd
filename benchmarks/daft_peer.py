"""The same embedding by Daft: list, download, decode and embed in a process a core, write Parquet.

Runs in Daft's own environment and so imports nothing of Verger. Decoding is that of the usual three lines of Pillow.
"""

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import daft
import numpy as np
import onnxruntime
import pyarrow.dataset
from PIL import Image

BATCH = 8
PHOTOS_A_CALL = 256


def measure(
    patterns: list[str], dest: str, network: str, shape: list[int], normalisation: list[list[float]]
) -> dict[str, float]:
    """Seconds from the first listing to the last file.

    Args:
        patterns: globs of the photos.
        dest: folder for Parquet; does not exist yet.
        network: an ONNX file, float32 `(n, *shape)` → `(n, d)`.
        shape: of one photo in it, colours first or last.
        normalisation: offset and scale of red, green and blue in 0..255.
    """
    cores = len(os.sched_getaffinity(0))
    embed = daft.cls(Embed, max_concurrency=cores, use_process=True)(network, shape, normalisation)
    start = time.perf_counter()
    photos = daft.from_glob_path(patterns).select("path")
    contents = photos.with_column("content", daft.col("path").download())
    contents.select("path", embed.vectors(daft.col("content")).alias("vector")).write_parquet(dest)
    end = time.perf_counter()
    count = pyarrow.dataset.dataset(dest).count_rows()
    return {"photos": count, "embed": round(end - start, 3)}


class Embed:
    """Made once in each of Daft's worker processes: photos' bytes → vectors, with one thread."""

    def __init__(self, network: str, shape: list[int], normalisation: list[list[float]]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.colours_first = shape[0] == 3
        self.side = shape[1]
        self.offset, self.scale = (np.array(value, np.float32) for value in normalisation)

    @daft.method.batch(return_dtype=daft.DataType.list(daft.DataType.float32()), batch_size=PHOTOS_A_CALL)
    def vectors(self, contents: Any) -> list[Any]:
        """The vectors of a column of photos."""
        photos = contents.to_pylist()
        entry = self.session.get_inputs()[0].name
        vectors: list[Any] = []
        for first in range(0, len(photos), BATCH):
            images = np.stack([self.pixels(photo) for photo in photos[first : first + BATCH]])
            if self.colours_first:
                images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            vectors.extend(self.session.run(None, {entry: images})[0])
        return vectors

    def pixels(self, photo: bytes) -> Any:
        """A photo's pixels as floats, normalised."""
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        small = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return (np.asarray(small, np.float32) - self.offset) / self.scale


if __name__ == "__main__":
    Path(json.loads(sys.argv[1])["dest"]).mkdir(parents=True, exist_ok=True)
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
