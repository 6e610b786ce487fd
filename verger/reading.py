"""Photos → their bytes, read in groups ahead of whoever uses them, so that slow storage makes nobody wait."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from verger.errors import PhotoError
from verger.photos import Photo
from verger.storage import Place

Item = TypeVar("Item")
Result = TypeVar("Result")

READS_IN_FLIGHT = 32
GROUP_PHOTOS = 64
GROUP_BYTES = 32_000_000  # two groups are held at a time: one in use, one on its way


def read_photo(place: Place, photo: Photo, max_bytes: int) -> bytes | PhotoError:
    """A photo's bytes, or why there are none."""
    if photo.bytes > max_bytes:
        return PhotoError("too_large")
    try:
        content = place.read(photo.path)
    except FileNotFoundError:
        return PhotoError("vanished")
    except OSError:
        return PhotoError("unreadable")
    return content if len(content) <= max_bytes else PhotoError("too_large")


def read_ahead(
    read: Callable[[Photo], Result], photos: Sequence[Photo], group_photos: int = GROUP_PHOTOS
) -> Iterator[list[Result]]:
    """`read` every photo, in threads; results in order, a group at a time, while the next group is on its way.

    In groups and not one by one, because every finished read would interrupt the caller at its work: Python runs one
    thread at a time. What is under way is bounded in number and in bytes.
    """
    with readers() as pool:
        yield from ahead(read, groups(photos, group_photos), pool)


@contextmanager
def readers() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait for storage; at the end, what they have not begun is dropped."""
    pool = ThreadPoolExecutor(READS_IN_FLIGHT, thread_name_prefix="read")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(
    work: Callable[[Item], Result], groups: Iterable[Sequence[Item]], pool: ThreadPoolExecutor
) -> Iterator[list[Result]]:
    """The results of `work`, in order, a group at a time, while the next group is worked on."""
    waiting: list[Future[Result]] = []
    for group in groups:
        following = [pool.submit(work, item) for item in group]
        if waiting:
            yield [future.result() for future in waiting]
        waiting = following
    if waiting:
        yield [future.result() for future in waiting]


def groups(photos: Sequence[Photo], group_photos: int) -> Iterator[Sequence[Photo]]:
    """Cut photos into groups, bounded in number and in bytes. The first is half as long: nobody has work before it."""
    start, size, most = 0, 0, max(1, group_photos // 2)
    for end, photo in enumerate(photos):
        if end > start and (end - start == most or size + photo.bytes > GROUP_BYTES):
            yield photos[start:end]
            start, size, most = end, 0, group_photos
        size += photo.bytes
    if start < len(photos):
        yield photos[start:]
