"""A request's body → the bytes of a photo, in memory only, never more than was allowed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message

from starlette.requests import ClientDisconnect, Request

from verger.web.options import ServeOptions
from verger.web.refusal import BUSY_SECONDS, RefusalError

MOST_PARTS = 16  # of a form


class Uploads:
    """Reads bodies within the limits that `options` set."""

    def __init__(self, options: ServeOptions) -> None:
        self._max_bytes, self._most_held, self._seconds = options.max_bytes, options.held_bytes, options.body_seconds
        self._held = 0

    @asynccontextmanager
    async def photo(self, request: Request, refusal: RefusalError | None) -> AsyncIterator[bytes]:
        """The photo in a request, held as long as the context lasts.

        Args:
            request: what was asked; its body is read here.
            refusal: what the client will be told anyway. One that is still sending may not listen, so what it sends is
                read first, and thrown away; within reason.

        Raises:
            RefusalError: no photo, too large, too slow, too much at a time, or `refusal`.
        """
        content = bytearray()
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    await self._read(request, content, refusal)
            except TimeoutError:
                raise RefusalError("too_slow") from None
            except ClientDisconnect:
                raise RefusalError("bad_request") from None
            yield photo_in(request.headers.get("content-type", ""), bytes(content))
        finally:
            self._held -= len(content)

    async def _read(self, request: Request, content: bytearray, refusal: RefusalError | None) -> None:
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            refusal = RefusalError("too_large")
        if refusal and "expect" in request.headers:  # this client waits to hear whether it should send
            raise refusal
        seen = 0
        async for chunk in request.stream():
            seen += len(chunk)
            refusal = refusal or self._why_not(seen, len(chunk))
            if refusal is None:
                content += chunk
                self._held += len(chunk)
            elif seen > 2 * self._max_bytes:
                raise refusal
        if refusal:
            raise refusal

    def _why_not(self, seen: int, more: int) -> RefusalError | None:
        if seen > self._max_bytes:
            return RefusalError("too_large")
        return RefusalError("busy", BUSY_SECONDS) if self._held + more > self._most_held else None


def photo_in(content_type: str, body: bytes) -> bytes:
    """The photo in a body: the body itself, or the first file of a form.

    Raises:
        RefusalError: `empty`, or `bad_request` for a form without a file.
    """
    header = Message()
    header["content-type"] = content_type.replace("\r", " ").replace("\n", " ")
    photo = _first_file(body, header) if header.get_content_type() == "multipart/form-data" else body
    if not photo:
        raise RefusalError("empty")
    return photo


def _first_file(body: bytes, header: Message) -> bytes:
    """The first part of a form that has a file name. RFC 7578; by hand, because libraries put files on disk."""
    boundary = header.get_boundary("").encode("utf-8", "replace")
    if not boundary:
        raise RefusalError("bad_request")
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary, MOST_PARTS)[1:]:
        head, blank, content = part.partition(b"\r\n\r\n")
        if blank and b"filename" in head.lower():
            return content
    raise RefusalError("bad_request")
