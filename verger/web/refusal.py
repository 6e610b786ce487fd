"""Everything that a request can be told instead of an answer, in one shape: `{"error": code, "message": words}`."""

from collections.abc import Mapping
from typing import NamedTuple

BUSY_SECONDS = 2  # after which an overloaded server may be asked again


class Told(NamedTuple):
    """What a code means to HTTP, and to people."""

    status: int
    message: str


TOLD: Mapping[str, Told] = {
    "bad_request": Told(400, "Expected a photo as the body, or as a file in multipart/form-data. Received neither."),
    "empty": Told(400, "Expected a photo. Received no bytes. Send the file itself as the body."),
    "not_found": Told(404, "There is nothing at this address. GET /docs lists what there is."),
    "method_not_allowed": Told(405, "This address does not take that method. GET /docs lists which it takes."),
    "too_slow": Told(408, "The request took too long to arrive. Send a smaller photo, or use a faster connection."),
    "too_large": Told(413, "The file is larger than this server reads. Send a smaller copy."),
    "not_an_image": Told(415, "Expected a photo: JPEG, PNG, WebP, GIF, BMP or TIFF. Received something else."),
    "truncated": Told(422, "The file ends before the picture does. Send it again, whole."),
    "too_many_pixels": Told(422, "The picture has more pixels than this server decodes. Send a smaller copy."),
    "unreadable": Told(422, "The picture cannot be decoded. Open it in a viewer, save it again, and send that."),
    "too_many_requests": Told(429, "Too many photos in a short time. Wait as long as Retry-After says."),
    "internal": Told(500, "The server failed. It was written to its log; the photo was not."),
    "busy": Told(503, "The server has more to do than it can. Try again after as long as Retry-After says."),
}


class RefusalError(Exception):
    """A request that gets no answer. It becomes one JSON response, and nothing else happens.

    Attributes:
        code: a key of `TOLD`.
        retry_after_seconds: when to try again, where that helps.
    """

    def __init__(self, code: str, retry_after_seconds: int | None = None) -> None:
        super().__init__(code)
        self.code, self.retry_after_seconds = code, retry_after_seconds

    @property
    def status(self) -> int:
        """The HTTP status."""
        return TOLD[self.code].status

    @property
    def content(self) -> dict[str, str]:
        """The body, before it becomes JSON."""
        return {"error": self.code, "message": TOLD[self.code].message}

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After, where it helps."""
        return {} if self.retry_after_seconds is None else {"retry-after": str(self.retry_after_seconds)}
