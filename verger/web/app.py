"""The web application: routes, errors in one shape, headers. Sockets are server.py's."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from verger import __version__
from verger.web.answers import AnswerModel, FailureModel
from verger.web.options import ServeOptions
from verger.web.pages import Page, api_page, pages
from verger.web.pool import Pool
from verger.web.rate import RateLimit
from verger.web.refusal import BUSY_SECONDS, TOLD, RefusalError
from verger.web.upload import Uploads

Responses = dict[int | str, dict[str, Any]]  # by status: what FastAPI documents of a response
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(self), geolocation=(), microphone=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
NOTHING = "default-src 'none'; frame-ancestors 'none'"  # what anything that is no page may load
PHOTO = {"schema": {"type": "string", "format": "binary"}}
FORM = {"schema": {"type": "object", "properties": {"photo": PHOTO["schema"]}, "required": ["photo"]}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "A photo (JPEG, PNG, WebP, GIF, BMP or TIFF), as the body itself or as a file of a form. Its "
        "content decides what it is, neither its name nor its declared type.",
        "content": {"image/*": PHOTO, "multipart/form-data": FORM},
    }
}
ABOUT = "Send a photo of a fruit, read what it is. A photo is read once, in memory, and is neither kept nor logged."


def create_app(pool: Pool, options: ServeOptions) -> FastAPI:
    """The application around workers that run already."""
    app = FastAPI(title="Verger", version=__version__, description=ABOUT, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    uploads = Uploads(options)
    rate = RateLimit(options.photos_per_minute)

    def why_not(request: Request) -> RefusalError | None:
        wait = rate.seconds_to_wait(request.client.host if request.client else "", time.monotonic())
        if wait:
            return RefusalError("too_many_requests", int(wait) + 1)
        return RefusalError("busy", BUSY_SECONDS) if pool.full else None

    @app.post("/recognise", responses=_failures(AnswerModel), response_model=None, openapi_extra=BODY)
    async def recognise(request: Request) -> Response:
        """Say which fruit a photo shows."""
        async with uploads.photo(request, why_not(request)) as photo:
            said = await pool.answer(photo)
        if said["error"]:
            raise RefusalError(said["error"])
        return JSONResponse(said)

    health: Responses = {200: {"description": "It can answer."}, 503: {"description": "No worker is left."}}

    @app.get("/healthz", responses=health, response_model=None)
    async def healthz() -> Response:
        """Say how the server is: its version, workers that can answer, photos that wait for one."""
        state = {"status": "ok" if pool.workers else "failing", "verger": __version__}
        numbers = {"workers": pool.workers, "waiting": pool.waiting}
        return JSONResponse({**state, **numbers}, 200 if pool.workers else 503)

    for page in (*pages(), api_page(app.openapi())):
        app.router.routes.append(Route(page.path, _serve(page)))
    _explain_errors(app)
    app.add_middleware(Guard, seconds=options.request_seconds)
    return app


def _failures(answer: type[AnswerModel]) -> Responses:
    """The answer and every failure of `POST /recognise`, for its documentation."""
    told: Responses = {200: {"model": answer, "description": "An answer."}}
    for code, (status, message) in TOLD.items():
        if code not in {"not_found", "method_not_allowed"}:
            known = told.setdefault(status, {"model": FailureModel, "description": ""})
            known["description"] = f"{known['description']}\n`{code}`: {message}".strip()
    return told


def _serve(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        if page.headers["etag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=page.headers)
        return Response(page.content, headers=page.headers, media_type=page.media_type)

    return serve


def _explain_errors(app: FastAPI) -> None:
    """Every failure gets the one shape."""

    @app.exception_handler(RefusalError)
    async def refused(_: Request, error: RefusalError) -> Response:
        return JSONResponse(error.content, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def no_such_address(_: Request, error: HTTPException) -> Response:
        code = "method_not_allowed" if error.status_code == 405 else "not_found"
        return JSONResponse(RefusalError(code).content, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return JSONResponse(RefusalError("internal").content, 500)


class Guard:
    """Around everything: security headers on every response, and an end to every request."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _with_defaults(message["headers"])
            await send(message)

        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, send_guarded)
        except TimeoutError:
            if not started:
                late = RefusalError("too_slow")
                await JSONResponse(late.content, late.status)(scope, receive, send_guarded)


def _with_defaults(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    there = {name for name, _ in headers}
    defaults = HEADERS | {"content-security-policy": NOTHING, "cache-control": "no-store"}
    return [*headers, *((k.encode(), v.encode()) for k, v in defaults.items() if k.encode() not in there)]
