"""The photos of a folder as one digest: the id that Git gives to such a folder.

Archives of one commit may differ byte for byte from day to day; their trees never do. Anybody can compare the id with
that of the source: `git rev-parse COMMIT:Training`. SHA-1 tells damage and drift, which is what it is for here.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

SUFFIX = ".jpg"  # files that people or their desktops put beside the photos are passed over


def tree_id(folder: Path, read: Callable[[], None] = lambda: None) -> str:
    """40 hex digits; `read` is called after each photo."""
    return _tree(folder, read).hex()


def _tree(folder: Path, read: Callable[[], None]) -> bytes:
    entries = []
    for path in folder.iterdir():
        if path.is_dir():
            entries.append((f"{path.name}/".encode(), b"40000", _tree(path, read)))
        elif path.suffix == SUFFIX:
            entries.append((path.name.encode(), b"100644", _digest(b"blob", path.read_bytes())))
            read()
    # Git sorts a folder as if its name ended with a slash, and writes it without.
    lines = [b"%s %s\0%s" % (mode, name.rstrip(b"/"), digest) for name, mode, digest in sorted(entries)]
    return _digest(b"tree", b"".join(lines))


def _digest(kind: bytes, content: bytes) -> bytes:
    return hashlib.sha1(b"%s %d\0%s" % (kind, len(content), content), usedforsecurity=False).digest()
