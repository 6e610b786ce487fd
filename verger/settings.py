"""Every setting of a run: one flat, frozen value with its unit, its help and its check.

The command line, `VERGER_*` environment variables and TOML files are all made from this class.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from verger.errors import SettingError

ENGINES = ("onnx", "tensorflow")
PRECISIONS = ("float32", "int8")
DEVICES = ("cpu", "cuda")
NORMALISATIONS = ("signed", "unit", "imagenet", "raw")
COMPONENTS = "a whole number of at least 1, or, with a decimal point, a share of variance in (0, 1]"


class Limits(NamedTuple):
    """What a photo may weigh."""

    max_bytes: int
    max_pixels: int


def _setting(default: Any, text: str, **extra: Any) -> Any:
    """A setting with its help, and what else is known of it.

    `choices`: the values it takes; `range`: the smallest and the largest; `otherwise`: what holds where it is None.
    """
    return field(default=default, metadata={"help": text, **extra})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is asked to do. Checked when made, never changed afterwards.

    Raises:
        SettingError: a value is outside its range; the message names the setting and the remedy.
    """

    source: str = field(metadata={"help": "Folder or bucket of photos; a photo's label is its parent folder."})
    dest: str = field(metadata={"help": "Folder or bucket that receives vectors, components, model and report."})
    backbone: str = _setting("efficientnet_lite0", "A built-in network's name, or FILE.onnx, or FILE.keras.")
    weights: str | None = _setting(
        None, "Weights file for a built-in network, instead of its usual source.", otherwise="the usual source"
    )
    engine: str = _setting(
        "onnx", "What runs the network; tensorflow needs `pip install 'verger[tensorflow]'`.", choices=ENGINES
    )
    precision: str = _setting(
        "float32",
        "Numbers that the network computes with: int8 is faster and less exact, calibrated on photos of the run.",
        choices=PRECISIONS,
    )
    device: str = _setting("cpu", "Where the network runs: cuda takes one worker for each NVIDIA GPU.", choices=DEVICES)
    image_size: int = _setting(224, "Side of the square that photos are resized to, in pixels.", range=(32, 2048))
    normalisation: str | None = _setting(
        None,
        "How a network from a file wants its pixels: signed (x/127.5-1), unit (x/255), imagenet, raw (0-255).",
        choices=NORMALISATIONS,
        otherwise="guessed from the file",
    )
    components: int | float = _setting(
        0.90, "Components to keep: a number (50), or, with a decimal point, a share of variance (0.90)."
    )
    standardise: bool = _setting(False, "Divide each vector entry by its standard deviation before PCA.")
    keep_projection: bool = _setting(False, "Project with the projection saved in DEST instead of fitting a new one.")
    label_level: int = _setting(
        1, "Which parent folder is the label: 1 the nearest, 2 its parent, and so on.", range=(1, 64)
    )
    max_failed: float = _setting(0.05, "Largest share of photos that may fail before the run does.", range=(0.0, 1.0))
    max_bytes: int = _setting(
        64_000_000, "A larger photo file is not read; it fails as too_large. In bytes.", range=(1, 2**31 - 1)
    )
    max_pixels: int = _setting(
        64_000_000,
        "A photo of more pixels is not decoded; it fails as too_many_pixels.",
        range=(1, 178_956_970),  # Pillow itself takes no more
    )
    part_photos: int = _setting(
        1000, "Largest number of photos in one part, the unit of work and of retry.", range=(1, 100_000)
    )
    restart: bool = _setting(False, "Discard what another network left in DEST, and start afresh.")
    master: str | None = _setting(
        None, "Spark master URL.", otherwise="what spark-submit says, else `local[*]`, a worker for every core"
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            self._check_type(setting)
            self._check_value(setting)
        self._check_components()

    @property
    def network(self) -> dict[str, Any]:
        """What `load_backbone` takes beside the network's name."""
        return {name: getattr(self, name) for name in ("weights", "engine", "image_size", "normalisation")}

    @property
    def limits(self) -> Limits:
        """What a photo may weigh."""
        return Limits(self.max_bytes, self.max_pixels)

    def _check_type(self, setting: Field[Any]) -> None:
        value, kind = getattr(self, setting.name), setting.type
        fits = isinstance(value, bool) if kind is bool else not isinstance(value, bool)
        whole_for_float = kind is float and isinstance(value, int)
        if not fits or not (whole_for_float or isinstance(value, kind)):  # type: ignore[arg-type]  # never a string here
            wanted = getattr(kind, "__name__", str(kind))
            received = f"{setting.name}={value!r} ({type(value).__name__})"
            raise SettingError(f"`{setting.name}` to be of type {wanted}", received, "Give such a value.")

    def _check_value(self, setting: Field[Any]) -> None:
        name, value = setting.name, getattr(self, setting.name)
        choices = setting.metadata.get("choices", ())
        if choices and value is not None and value not in choices:
            raise SettingError(f"`{name}` to be one of {', '.join(choices)}", f"{name}={value!r}", "Choose one.")
        low, high = setting.metadata.get("range", (None, None))
        if low is not None and not low <= value <= high:
            raise SettingError(f"`{name}` between {low} and {high}", f"{name}={value}", "Choose a value in that range.")

    def _check_components(self) -> None:
        value = self.components
        if value < 1 if isinstance(value, int) else not 0.0 < value <= 1.0:
            raise SettingError(
                f"`components` to be {COMPONENTS}",
                f"components={value}",
                "Give for instance --components 50 or --components 0.90.",
            )


def parse_components(text: str) -> int | float:
    """`"50"` is a number of components, `"0.90"` a share of variance; the decimal point decides."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise SettingError(
            "`components` to be a number", f"components={text!r}", "Give 50 components, or a 0.90 share of variance."
        ) from None


def read_toml(path: Path) -> Mapping[str, Any]:
    """The settings that a TOML file holds, one `name = value` a line, no tables.

    Raises:
        SettingError: the file cannot be read, is not TOML, or names a setting that does not exist.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        advice = "Mend the file, or leave --config out."
        raise SettingError("a readable TOML file", f"{path}: {error}", advice) from error
    known = {f.name for f in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise SettingError(
            f"settings among {', '.join(sorted(known))}", f"{', '.join(unknown)} in {path}", "Rename or remove them."
        )
    return values
