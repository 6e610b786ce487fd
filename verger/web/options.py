"""What a server is asked to do: one frozen value, checked before it listens."""

import ipaddress
import os
from dataclasses import dataclass, field

from verger.errors import SettingError
from verger.settings import Limits

LARGEST_BYTES, LARGEST_PIXELS = 64_000_000, 178_956_970  # Pillow itself takes no more pixels


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Where to listen, and how much to take on.

    Attributes:
        host: address to listen on.
        port: 0 takes any free one.
        allow_remote: whether `host` may be reached from other machines.
        proxy: address of a reverse proxy whose X-Forwarded-For is believed; None believes nobody's.
        workers: processes that run the network, one thread each.
        waiting: photos that may wait for a worker; the next is answered 503.
        max_bytes: a larger upload is refused while it arrives.
        held_bytes: of all uploads at a time; memory stays flat whatever arrives.
        max_pixels: a photo of more pixels is not decoded.
        photos_per_minute: from one client; 0 sets no limit.
        silence_seconds: how long a connection may lie idle, and the first lines of a request may take.
        body_seconds: how long an upload may take.
        request_seconds: how long everything about a request may take, a client that does not read included.
        answer_seconds: how long a worker may take for a photo before it is replaced.

    Raises:
        SettingError: a value is out of range, or other machines are let in without `allow_remote`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    allow_remote: bool = False
    proxy: str | None = None
    workers: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    waiting: int = 32
    max_bytes: int = 10_000_000
    held_bytes: int = 64_000_000
    max_pixels: int = 25_000_000
    photos_per_minute: int = 30
    silence_seconds: int = 10
    body_seconds: float = 30.0
    request_seconds: float = 60.0
    answer_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("port", 0, 65_535),
            ("workers", 1, 256),
            ("max_bytes", 1000, LARGEST_BYTES),
            ("max_pixels", 1000, LARGEST_PIXELS),
            ("photos_per_minute", 0, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                received = f"{name}={value}"
                raise SettingError(f"`{name}` between {low} and {high}", received, "Choose a value in that range.")
        if not self.allow_remote and not is_loopback(self.host):
            raise SettingError(
                "an address of this machine alone, such as 127.0.0.1",
                f"host={self.host}",
                "Put a proxy with https in front (docs/serve.md says how); or add --allow-remote: everyone who reaches "
                "this machine may then send photos, and photos travel unencrypted.",
            )

    @property
    def limits(self) -> Limits:
        """What a photo may weigh."""
        return Limits(self.max_bytes, self.max_pixels)


def is_loopback(host: str) -> bool:
    """True of an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
