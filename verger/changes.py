"""What became of the photos since the last finished run, for the manifest and the report."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from verger.parts import INDEX
from verger.resume import Work


def count_changes(work: Work, failed: Iterable[str]) -> dict[str, int] | None:
    """How many photos were added, changed, removed and mended since the last run; None where nothing tells.

    Added and removed are those with a path that one of the two runs does not know. Mended are those that failed in the
    last run and have a vector now; of the others, changed are those with other bytes or another time of modification.
    Nothing tells where no run was finished in DEST, or where it used another network: its rows are gone.

    Args:
        work: what this run found, before it changed anything.
        failed: paths of the photos that failed in this run.
    """
    if work.previous is None or not same_network(work.previous, work.backbone.fingerprint):
        return None
    rows = pa.concat_tables([part.rows for part in work.index] or [INDEX.empty_table()])
    photos = work.listing.photos.table
    at = pc.index_in(rows["path"], value_set=photos["path"].combine_chunks())
    there = pc.is_valid(at).to_numpy(zero_copy_only=False)
    rows, places = rows.filter(pa.array(there)), at.filter(pa.array(there)).to_numpy().astype(np.int64)
    differs = np.zeros(len(places), dtype=bool)
    for name in ("bytes", "modified_us"):
        differs |= rows[name].to_numpy() != photos[name].to_numpy()[places]
    fails = pc.is_in(rows["path"], value_set=pa.array(list(failed), pa.string())).to_numpy(zero_copy_only=False)
    mended = rows["error"].is_valid().to_numpy() & ~fails
    known = np.unique(places)
    return {
        "added": len(photos) - len(known),
        "changed": len(np.unique(places[differs & ~mended])),
        "removed": int(np.count_nonzero(~there)),
        "mended": len(np.unique(places[mended])),
    }


def same_network(previous: Mapping[str, Any], fingerprint: str) -> bool:
    """Whether a run's manifest says that this network made its vectors."""
    return bool(previous.get("backbone", {}).get("fingerprint") == fingerprint)
