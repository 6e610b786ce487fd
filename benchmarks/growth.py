"""How PCA's cost grows with the length of vectors: processor seconds, one thread. Reads no photo."""

import time

import numpy as np
from threadpoolctl import threadpool_limits

from verger.components import BLOCK_VECTORS
from verger.projection import Statistics, fit_projection

LENGTHS = (1280, 2560, 5120)


def main() -> None:
    """A row for each length, as docs/critique.md has them."""
    print(f"length   statistics MB   summing {BLOCK_VECTORS} vectors s   merging s   eigenvectors s")
    with threadpool_limits(1):
        for length in LENGTHS:
            vectors = np.random.default_rng(0).standard_normal((BLOCK_VECTORS, length), dtype=np.float32)
            seconds = [time.process_time()]
            statistics = Statistics.of(vectors)
            seconds.append(time.process_time())
            merged = statistics.merge(statistics)
            seconds.append(time.process_time())
            fit_projection(merged, 50)
            seconds.append(time.process_time())
            summing, merging, solving = np.diff(seconds)
            megabytes = statistics.scatter.nbytes / 1e6
            print(f"{length:6} {megabytes:15.0f} {summing:26.2f} {merging:11.2f} {solving:16.1f}")


if __name__ == "__main__":
    main()
