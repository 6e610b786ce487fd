"""Serves Embedding Atlas, a page for maps of vectors, with a run's photos in it; to this machine alone.

Only its page is used: HTML, scripts, and a DuckDB that runs in the browser. It is found, not imported: its Python code
would bring torch along (docs/decisions/0035-explore.md). `data/` is what that page asks for.
"""

import importlib.metadata
import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verger.errors import MissingError, PhotoError
from verger.explore.rows import label_places
from verger.image import thumbnail
from verger.photos import Photo
from verger.reading import read_photo
from verger.settings import Limits
from verger.storage import Place

ATLAS = "embedding-atlas==0.22.0"  # the version whose page this was tested with
PHOTO_PATH = "/photos/{}.jpg"  # of a row
THUMBNAIL_PIXELS = 160
STOP_SECONDS = 2
HOST = "127.0.0.1"
# The browser itself refuses whatever the page might ask of another machine. DuckDB is WebAssembly.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def atlas_page() -> Path:
    """The folder of Embedding Atlas' page.

    Raises:
        MissingError: the package is not installed, or is another version.
    """
    package, _, wanted = ATLAS.partition("==")
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    found = importlib.util.find_spec("embedding_atlas") if version == wanted else None
    for folder in (found.submodule_search_locations or ()) if found else ():
        if (page := Path(folder, "static")).joinpath("index.html").is_file():
            return page
    received = f"version {version}" if version else "no such package"
    raise MissingError(
        f"the page of {ATLAS}", received, f"Install it, without its dependencies: pip install --no-deps {ATLAS}"
    )


def create_app(page: Path, table: pa.Table, source: Place, limits: Limits) -> Starlette:
    """The application: the page, its data, and thumbnails made when they are looked at.

    Args:
        page: folder of Embedding Atlas' page.
        table: as `photo_table` makes it.
        source: where the photos are.
        limits: of a photo that is read.
    """
    content, metadata = _parquet(table), _metadata(table)
    paths: Sequence[str] = table["path"].to_pylist() if "photo" in table.column_names else ()

    def photo(request: Request) -> Response:
        row = request.path_params["row"]  # a number: no address ever becomes a path
        read = read_photo(source, Photo(paths[row], "", 0, 0), limits.max_bytes) if row < len(paths) else None
        try:
            small = thumbnail(read, THUMBNAIL_PIXELS, limits.max_pixels) if isinstance(read, bytes) else b""
        except PhotoError:
            small = b""
        return Response(small, 200 if small else 404, media_type="image/jpeg")

    return Starlette(
        routes=[
            Route("/data/metadata.json", lambda _: JSONResponse(metadata)),
            Route("/data/dataset.parquet", lambda _: Response(content, media_type="application/octet-stream")),
            Route("/data/cache/{name}", lambda _: JSONResponse(None), methods=["GET", "POST"]),  # nothing is kept
            Route(PHOTO_PATH.format("{row:int}"), photo),
            Mount("/", StaticFiles(directory=page, html=True)),
        ],
        middleware=[Middleware(Guard), Middleware(TrustedHostMiddleware, allowed_hosts=[HOST])],
    )


def server(app: Starlette) -> uvicorn.Server:
    """What runs the application until Ctrl-C or SIGTERM."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _metadata(table: pa.Table) -> dict[str, Any]:
    """What the page is told: which column is what, and how to begin. Its own names, so American."""
    roles = {"text": "path", "neighbors": "neighbours"}
    shown = ["label", "path", "neighbours_alike"]
    if "photo" in table.column_names:
        roles, shown = {**roles, "image": "photo"}, ["photo", *shown]
    styles: dict[str, Any] = {name: {"display": "hidden"} for name in table.column_names if name not in shown}
    styles["photo"] = {"display": "full", "renderer": "image", "options": {"size": THUMBNAIL_PIXELS}}
    charts = ["label", "neighbours_alike"]
    if not table["folder"].equals(table["label"]):
        charts.append("folder")
    place = {"x": "x", "y": "y"}
    return {
        "isStatic": True,  # the server makes no exports; what is selected can be saved by the page itself
        "database": {"type": "wasm", "load": True},
        "props": {
            "data": {"table": "dataset", "id": "id", "projection": place, **roles},
            "embeddingViewLabels": label_places(table),
            "defaultChartsConfig": {
                "embedding": {"title": "Map", "data": {**place, **roles, "category": "label"}},
                "table": {"title": "Photos", "viewMode": "cards", "columns": shown},
                "include": charts,
            },
            "initialState": {"columnStyles": styles},
        },
    }


class Guard:
    """Sets the headers of every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its response back with the headers."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app(scope, receive, guarded)
