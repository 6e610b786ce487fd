"""Labels form a tree: that of the folders in which photos lie. A label path names a leaf of it, finest label first."""

LabelPath = tuple[str, ...]  # ("Braeburn", "Apple"): a label, and its parents, nearest first


def folder_of(path: str) -> str:
    """The folder of a photo; "" where it lies in SOURCE itself."""
    return path.rpartition("/")[0]


def label_path(folder: str, level: int, name_of_source: str) -> LabelPath:
    """The label at this level, as `verger.photos.label_of` gives it, and what lies above it.

    >>> label_path("Apple/Braeburn", 1, "photos"), label_path("Apple/Braeburn", 2, "photos")
    (('Braeburn', 'Apple'), ('Apple',))
    """
    steps = folder.split("/") if folder else [name_of_source]
    return tuple(reversed(steps[: max(1, len(steps) - level + 1)]))


def source_name(uri: str) -> str:
    """The name of SOURCE itself: the label of photos that lie directly in it."""
    return uri.rstrip("/").rpartition("/")[2]
