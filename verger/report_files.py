"""What a run leaves for reading: `report.html`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc

from verger.components import Sample
from verger.previews import make_previews
from verger.projection import Projection
from verger.report import ReportData, render_report
from verger.report_cost import reckon_cost
from verger.resume import Work
from verger.settings import Limits
from verger.vectors import EmbedResult

if TYPE_CHECKING:
    from pyspark import SparkContext

REPORT = "report.html"


class Outcome(NamedTuple):
    """What the stages before the report gave."""

    embedded: EmbedResult
    projection: Projection
    sample: Sample
    confusions: Sequence[tuple[str, str, int]]  # of the recogniser: truth, answer, photos; most frequent first


def write_report(
    context: "SparkContext", work: Work, manifest: dict[str, Any], outcome: Outcome, limits: Limits
) -> None:
    """Make previews of some photos, and write the page."""
    embedded, projection, photos = outcome.embedded, outcome.projection, work.listing.photos
    shown, failures = make_previews(context, work.source, outcome.sample, photos, embedded.failures, limits)
    data = ReportData(
        labels=embedded.labels + work.remaining.labels,
        variance=projection.spectrum,
        total_variance=projection.total_variance,
        photos=shown,
        failures=failures,
        confusions=outcome.confusions,
        previous=work.previous,
        cost=reckon_cost(manifest, pc.sum(photos.table["bytes"]).as_py()),
    )
    work.dest.write(REPORT, render_report(manifest, data).encode())
