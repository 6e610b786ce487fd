"""Everything that is served as it is, read once when the server starts: no address ever becomes a path on disk."""

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, select_autoescape

FOLDER = files("verger.web")
TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
# What the page may load: itself, photos that it holds in memory, and answers from this server. The hashes are added.
POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; manifest-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ADDRESSES = {
    "/": "page.html",
    "/icon.svg": "icon.svg",
    "/icon-180.png": "icon-180.png",
    "/icon-192.png": "icon-192.png",
    "/icon-512.png": "icon-512.png",
    "/manifest.webmanifest": "manifest.webmanifest",
    "/service-worker.js": "service-worker.js",
}


class Page(NamedTuple):
    """A response that never changes while the server runs."""

    path: str
    media_type: str
    content: bytes
    headers: Mapping[str, str]


def pages() -> list[Page]:
    """The phone page with its icons, its manifest and its service worker."""
    return [_page(path, name, (FOLDER / name).read_bytes()) for path, name in ADDRESSES.items()]


def api_page(schema: Mapping[str, Any]) -> Page:
    """The API's documentation, made from its OpenAPI schema; without a script, and without anything from elsewhere."""
    templates = Environment(loader=PackageLoader("verger.web", ""), autoescape=select_autoescape(), trim_blocks=True)
    return _page("/docs", "docs.html", templates.get_template("docs.html").render(schema=schema).encode())


def _page(path: str, name: str, content: bytes) -> Page:
    headers = {"cache-control": "no-cache", "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}
    kind = name.rpartition(".")[2]
    if kind == "html":
        headers["content-security-policy"] = policy(content.decode())
    if kind == "js":  # a service worker obeys its own policy, not the page's
        headers["content-security-policy"] = "default-src 'none'; connect-src 'self'"
    return Page(path, TYPES[kind], content, headers)


def policy(html: str) -> str:
    """The Content-Security-Policy of a page: its own inline script and style, known by their hashes, and no other."""
    rules = [POLICY]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inline]
        rules += [" ".join([directive, *(f"'sha256-{one}'" for one in hashes)])] if hashes else []
    return "; ".join(rules)
