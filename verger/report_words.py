"""Numbers as people read them, and labels in the order in which people expect them."""

import re
from datetime import datetime

NO_LABEL = "(no label)"
SPACE = "\N{NO-BREAK SPACE}"


def plural(number: int, noun: str) -> str:
    """`1 photo`, `2,000 photos`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float) -> str:
    """`0.671` is `67.1 %`. What is short of everything never reads as 100 %, nor what is there as nothing."""
    if 0 < share < 0.0005:
        return f"< 0.1{SPACE}%"
    hundredths = 100.0 if share > 1 - 1e-9 else min(round(100 * share, 1), 99.9)
    return f"{hundredths:g}{SPACE}%"


def duration(seconds: float) -> str:
    """`3.2 s`, `1 min 05 s`, `2 h 10 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f}{SPACE}s"
    big, small, units = (60, 1, ("min", "s")) if seconds < 3599.5 else (3600, 60, ("h", "min"))
    first, rest = divmod(round(seconds / small), big // small)
    return f"{first:,}{SPACE}{units[0]} {rest:02}{SPACE}{units[1]}"


def size(count: int) -> str:
    """`0 bytes`, `6.1 kB`, `3.2 MB`, `1.5 GB`."""
    for power, unit in ((9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 0.9995 * 10**power:
            return f"{count / 10**power:.1f}{SPACE}{unit}"
    return plural(count, "byte")


def moment(text: str) -> str:
    """A time of ISO 8601 as `2026-03-12, 14:05 UTC`."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d, %H:%M %Z}".strip()


def natural(text: str) -> list[tuple[bool, int, str]]:
    """A sort key by which `Apple 9` comes before `Apple 10`."""
    parts = re.split(r"([0-9]+)", text.casefold())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part]
