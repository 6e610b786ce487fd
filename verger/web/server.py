"""Listens: a socket, Uvicorn, the workers; and an end to all of them."""

import asyncio
import http
import ipaddress
import json
import socket
from asyncio import BaseTransport, TimerHandle
from collections.abc import Callable, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from verger.errors import SettingError
from verger.web.app import create_app
from verger.web.options import ServeOptions
from verger.web.pool import Pool
from verger.web.refusal import BUSY_SECONDS, RefusalError

MOST_CONNECTIONS = 400
STOP_SECONDS = 10  # for requests to end after Ctrl-C


async def serve(command: Sequence[str], options: ServeOptions, ready: Callable[[str], None]) -> None:
    """Answer until Ctrl-C or SIGTERM.

    Args:
        command: starts a worker, see `verger/web/worker.py`.
        options: where to listen, and how much to take on.
        ready: called with the server's address once it can answer.

    Raises:
        SettingError: the address is taken, or a worker cannot use what it was given.
        RunFailedError: a worker does not start.
    """
    with listen(options) as listener:
        async with Pool(command, options.workers, options.waiting, options.answer_seconds) as pool:
            config = uvicorn.Config(
                create_app(pool, options),
                http=PatientProtocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,  # who asked is nobody's business
                server_header=False,
                proxy_headers=options.proxy is not None,
                forwarded_allow_ips=options.proxy,
                timeout_keep_alive=options.silence_seconds,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
            ready(address_of(listener))
            await uvicorn.Server(config).serve([listener])


def listen(options: ServeOptions) -> socket.socket:
    """A socket on the address that was asked for, before anything slow begins.

    Raises:
        SettingError: the address is taken, or is none of this machine's.
    """
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        received = f"{options.host}, port {options.port}: {error.strerror}"
        raise SettingError("an address where nobody else listens", received, "Choose another --port.") from error


def address_of(listener: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ipaddress.ip_address(host).version == 6 else f"http://{host}:{port}"


class PatientProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with an end to its patience: with too many connections, and with silent ones."""

    _watch: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Refuse it where there are too many; otherwise watch that a request comes."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (TCP has no other)
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(RefusalError("busy", BUSY_SECONDS))
        else:
            self._watch = self.loop.call_later(self.timeout_keep_alive, self._look, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._watch:
            self._watch.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (Uvicorn's words; ours have the one shape)
        """What is no HTTP gets the one shape of failures too."""
        self._refuse(RefusalError("bad_request"))

    def _look(self, last: object) -> None:
        """Hang up where nothing was asked since the last look. `last` is the request that had been answered by then."""
        answered = self.cycle is None or self.cycle.response_complete
        if answered and self.cycle is last:
            self.transport.close()
        else:
            seen = self.cycle if answered else self
            self._watch = self.loop.call_later(self.timeout_keep_alive, self._look, seen)

    def _refuse(self, refusal: RefusalError) -> None:
        content = json.dumps(refusal.content).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
        lines = [f"HTTP/1.1 {refusal.status} {http.HTTPStatus(refusal.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (headers | refusal.headers).items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.transport.close()
