"""A process that the server asks: photos on its standard input, answers on its standard output, until the input ends.

Every message is its length (four bytes, big-endian) and its bytes: a photo, or JSON. Nothing is ever unpickled, and no
photo is written anywhere.
"""

import json
import logging
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from verger.errors import PhotoError, VergerError
from verger.recogniser import Answer
from verger.recognition import load
from verger.settings import Limits
from verger.storage import open_place
from verger.web.answers import describe
from verger.web.pool import LENGTH_BYTES

# What a photo may take beside what the network takes. A decoder that wants more gets a MemoryError.
PHOTO_BYTES = 2**30


class Recogniser(Protocol):
    """What a worker asks: `verger.recognition.Recognition`, or a smaller one in tests."""

    def answer(self, photos: Sequence[bytes], limits: Limits) -> list[Answer | PhotoError]:
        """What each photo shows, or why it cannot be read."""

    def lookalikes(self, label: str) -> list[bytes]:
        """Small JPEG files."""


def main() -> None:
    """`python -m verger.web.worker DEST MAX_BYTES MAX_PIXELS`, as the server starts it."""
    dest, max_bytes, max_pixels = sys.argv[1:]
    work(lambda: load(open_place(dest)), Limits(int(max_bytes), int(max_pixels)))


def work(load_recogniser: Callable[[], Recogniser], limits: Limits) -> None:
    """Load what answers, say that it is ready or why not, then answer photo after photo."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # strangers would write the log: it quotes from damaged files
    photos, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to the log, not between two answers
    try:
        recogniser = load_recogniser()
    except VergerError as error:
        _say(answers, {"expected": error.expected, "received": error.received, "advice": error.advice})
        return
    _limit_memory()
    _say(answers, {"ready": True})
    while length := photos.read(LENGTH_BYTES):
        photo = photos.read(int.from_bytes(length, "big"))
        _say(answers, _answer(recogniser, photo, limits))


def _answer(recogniser: Recogniser, photo: bytes, limits: Limits) -> dict[str, Any]:
    answer = recogniser.answer([photo], limits)[0]
    if not isinstance(answer, Answer):
        return {"error": answer.cause}
    lookalikes = recogniser.lookalikes(answer.guesses[0].label) if answer.guesses and answer.known else []
    return describe(answer, lookalikes).model_dump()


def _say(answers: BinaryIO, message: dict[str, Any]) -> None:
    content = json.dumps(message, ensure_ascii=False).encode()
    answers.write(len(content).to_bytes(LENGTH_BYTES, "big") + content)
    answers.flush()


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + PHOTO_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
