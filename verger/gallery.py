"""A few thumbnails of every label, as `model/gallery.npz`: look-alikes for whoever asks what a photo shows."""

import io
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from verger.errors import SettingError
from verger.photos import Photos

GALLERY = "model/gallery.npz"
SIDE_PIXELS = 160
PHOTOS_PER_LABEL = 3
MOST_LABELS = 1_000  # about 15 MB of thumbnails


def choose_photos(photos: Photos) -> Photos:
    """Up to three photos of each label, spread over its photos; of the first labels only where there are too many."""
    of_label: dict[str, list[int]] = {}
    for at, label in enumerate(photos.table["label"].to_pylist()):
        of_label.setdefault(label, []).append(at)
    chosen = []
    for label in sorted(of_label)[:MOST_LABELS]:
        own = of_label[label]
        count = min(PHOTOS_PER_LABEL, len(own))
        chosen += [own[(2 * i + 1) * len(own) // (2 * count)] for i in range(count)]
    return photos.take(np.array(sorted(chosen), np.int64))


def gallery_bytes(thumbnails: Sequence[tuple[str, bytes]]) -> bytes:
    """Labels with their JPEGs, which carry no metadata, as the content of `gallery.npz`; no pickle."""
    out = io.BytesIO()
    shown = [(label, image) for label, image in thumbnails if image]
    np.savez(
        out,
        labels=np.array([label for label, _ in shown], dtype=np.str_),
        lengths=np.array([len(image) for _, image in shown], dtype=np.int64),
        images=np.frombuffer(b"".join(image for _, image in shown), dtype=np.uint8),
    )
    return out.getvalue()


def read_gallery(content: bytes) -> Mapping[str, Sequence[bytes]]:
    """The JPEGs of each label.

    Raises:
        SettingError: the content is something else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            labels, lengths, images = arrays["labels"].tolist(), arrays["lengths"], arrays["images"].tobytes()
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SettingError("a gallery.npz that Verger wrote", f"{error}", "Run again on the same DEST.") from error
    gallery: dict[str, list[bytes]] = {}
    ends = np.cumsum(lengths)
    for label, length, end in zip(labels, lengths, ends, strict=True):
        gallery.setdefault(label, []).append(images[end - length : end])
    return gallery
