"""Everything that can go wrong, as one small tree.

    VergerError           exit 1
    ├── SettingError      exit 2   a setting, path or file cannot be used; nothing was changed
    ├── MissingError      exit 2   Java, an extra or a package is not installed
    ├── RunFailedError    exit 1   photos were read, then the run had to stop; what is done stays done
    └── PhotoError        (never leaves a task: it becomes the `error` of a vector row)

Every message says what was expected, what was received, and what to do.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Cause = Literal["truncated", "not_an_image", "too_large", "too_many_pixels", "unreadable", "vanished"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
MEANINGS: Mapping[Cause, str] = {
    "truncated": "The file ends before the picture does.",
    "not_an_image": "The content is no picture in a format that Verger reads, whatever the file's name says.",
    "too_large": "The file has more bytes than `--max-bytes`; it was not read.",
    "too_many_pixels": "The picture has more pixels than `--max-pixels`; it was not decoded.",
    "unreadable": "The file may not be read, or its picture is damaged in another way.",
    "vanished": "The file was there when the photos were listed, and gone when its turn came.",
}
EXIT_CODES: Mapping[int, str] = {
    0: "Done.",
    1: "The run failed, and kept what it had: the same command goes on.",
    2: "Bad usage or setting, or something is not installed. Nothing was changed.",
    130: "Stopped by Ctrl-C. What is done stays done.",
}


class VergerError(Exception):
    """A failure that Verger can explain: what was expected, what was received, what to do."""

    exit_code = 1

    def __init__(self, expected: str, received: str, advice: str) -> None:
        super().__init__(expected, received, advice)  # all three, so that the error survives pickling
        self.expected, self.received, self.advice = expected, received, advice

    def __str__(self) -> str:
        return f"Expected {self.expected}. Received: {self.received}. {self.advice}"


class SettingError(VergerError):
    """A setting, a path or a file that cannot be used. Nothing was changed."""

    exit_code = 2


class MissingError(VergerError):
    """Something that must be installed first. The advice is the command that does it."""

    exit_code = 2


class RunFailedError(VergerError):
    """Photos were read, then the run had to stop. What is done stays done."""


class PhotoError(Exception):
    """One photo that cannot be embedded. It becomes a row, never the end of a run.

    Attributes:
        cause: one of `CAUSES`, a closed list that manifests count.
    """

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause)
        self.cause: Cause = cause
