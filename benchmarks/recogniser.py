"""What each step gives to the recogniser: networks, sizes, views, components; on held-out varieties and in other shops.

    python benchmarks/recogniser.py fruits  PHOTOS --cache DIR [--weights FILE]
    python benchmarks/recogniser.py grocery PHOTOS --cache DIR

`fruits`: PHOTOS holds KIND/VARIETY/*.jpg, as Fruits-360 does. The kind is predicted, tenths of the varieties are held
out in turn. Choices are made on other divisions into tenths than the one that is reported, which is that of
`verger evaluate`.

`grocery`: PHOTOS is the GroceryStoreDataset: fitted on fruit and vegetables of `train`, judged on `validation`, photos
of other shops. Each fine label's validation photos, in the order of their names, are cut into two halves: choices are
made on the first, figures are reported on the second. Packages, noise, drawings and rendered text are what it should
not know. Labels are those of classes.csv, because some folders are elsewhere in `validation` than in `train`.

The cache keeps vectors; a run that was stopped goes on from there.
"""

import argparse
import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from verger.backbone import load_backbone
from verger.evaluation import Judged, measure
from verger.holding_out import Protocol, divide, fit_without
from verger.image import decode
from verger.labels import folder_of, label_path
from verger.learning import LabelledPhoto, fit_recogniser
from verger.network import Backbone, Network
from verger.projection import Projection, Statistics, fit_projection
from verger.recogniser import Recogniser, softmax
from verger.recogniser_graph import SHARPNESS

MAX_PIXELS, GROUP = 64_000_000, 32
KEPT = {"middle": 0.75, "half": 0.5}  # share of a side that these views keep
Vectors = NDArray[np.float32]
Fit = tuple[int, Projection, Recogniser]  # what was fitted without a fold, and the fold's number
LITE0, MOBILENET = "efficientnet_lite0", "mobilenet_v2"
_network: dict[str, Network] = {}


class View(NamedTuple):
    """One way to look at a photo: with which network, at which side in pixels, and at what of it.

    Kinds: "whole", "mirror" (all of it, mirrored), "middle" (three quarters of each side), "half" (half of each side,
    mirrored).
    """

    network: str = LITE0
    side: int = 224
    kind: str = "whole"


WHOLE, MIRROR, MIDDLE, HALF, LARGE = View(), View(kind="mirror"), View(kind="middle"), View(kind="half"), View(side=288)


class Step(NamedTuple):
    """One row: how photos are looked at when fitting (each view a photo of its own), and when asking."""

    name: str
    fit: tuple[View, ...] = (WHOLE,)
    ask: tuple[View, ...] = (WHOLE,)
    components: int = 128
    sharpness: float = 0.0  # views count the less the further they are from everything known; 0: all the same


GROCERY = (
    Step("whole photo"),
    Step("ask mirrored too", ask=(WHOLE, MIRROR)),
    Step("ask the middle too", ask=(WHOLE, MIDDLE)),
    Step("ask whole, mirrored and middle", ask=(WHOLE, MIRROR, MIDDLE)),
    Step("ask whole and half, both the same", ask=(WHOLE, HALF)),
    Step("ask whole and half (what Verger does)", ask=(WHOLE, HALF), sharpness=SHARPNESS),
    Step("the same, half as sharp", ask=(WHOLE, HALF), sharpness=SHARPNESS / 2),
    Step("the same, twice as sharp", ask=(WHOLE, HALF), sharpness=SHARPNESS * 2),
    Step("64 components", ask=(WHOLE, HALF), components=64, sharpness=SHARPNESS),
    Step("256 components", ask=(WHOLE, HALF), components=256, sharpness=SHARPNESS),
    Step("288 pixels (`--image-size 288`), ask whole", (LARGE,), (LARGE,)),
    Step("fit and ask the middle alone", (MIDDLE,), (MIDDLE,)),
    Step("fit and ask whole and half", (WHOLE, HALF), (WHOLE, HALF), sharpness=SHARPNESS),
)
FRUITS = (
    Step("whole photo"),
    Step("ask mirrored too", ask=(WHOLE, MIRROR)),
    Step("ask whole, mirrored and middle", ask=(WHOLE, MIRROR, MIDDLE)),
    Step("ask whole and half, both the same", ask=(WHOLE, HALF)),
    Step("ask whole and half (what Verger does)", ask=(WHOLE, HALF), sharpness=SHARPNESS),
    Step("the same, half as sharp", ask=(WHOLE, HALF), sharpness=SHARPNESS / 2),
    Step("the same, twice as sharp", ask=(WHOLE, HALF), sharpness=SHARPNESS * 2),
    Step("MobileNetV2", (View(MOBILENET),), (View(MOBILENET),)),
    Step("256 components", components=256),
    Step("288 pixels", (LARGE,), (LARGE,)),
)


def pixels(content: bytes, view: View) -> NDArray[np.uint8]:
    large = round(view.side / KEPT.get(view.kind, 1.0))
    start = (large - view.side) // 2
    seen = decode(content, large, MAX_PIXELS).pixels[start : start + view.side, start : start + view.side]
    return seen[:, ::-1] if view.kind in ("mirror", "half") else seen


def embed_group(job: tuple[Backbone, View, Sequence[bytes]]) -> Vectors:
    backbone, view, contents = job
    network = _network.setdefault(backbone.fingerprint, backbone.load())
    return network(np.stack([pixels(content, view) for content in contents]))


def embed(name: str, contents: Sequence[Path] | Sequence[bytes], view: View, a: argparse.Namespace) -> Vectors:
    """The vectors of photos, from the cache if they are there."""
    file = Path(a.cache, f"{name}-{view.network}-{view.side}-{view.kind}.npy")
    if not file.exists():
        weights = a.weights if view.network == MOBILENET else None
        backbone = load_backbone(view.network, weights=weights, image_size=view.side)
        read = (one.read_bytes() if isinstance(one, Path) else one for one in contents)
        jobs = [(backbone, view, group) for group in grouped(read)]
        os.environ["OMP_NUM_THREADS"] = "1"
        with Pool() as pool:
            found = np.concatenate(pool.map(embed_group, jobs, chunksize=1))
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    vectors: Vectors = np.load(file)
    assert len(vectors) == len(contents), f"{file} is of other photos: delete it"
    return vectors


def grouped(contents: Iterator[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for content in contents:
        group.append(content)
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def look(
    recogniser: Recogniser, projection: Projection, views: Sequence[Vectors], sharpness: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors (n, d) of each view → probabilities (n, c) and distances (n,), as `recogniser.onnx` gives them."""
    components = [projection.apply(view) for view in views]
    residuals = [projection.residuals(view, its) for view, its in zip(views, components, strict=True)]
    far = np.stack([recogniser.distances(*both) for both in zip(components, residuals, strict=True)])  # (views, n)
    shares = softmax(-sharpness * far.T).T
    scores = sum(share[:, None] * recogniser.scores(its) for share, its in zip(shares, components, strict=True))
    return softmax(scores / recogniser.temperature), (shares * far).sum(axis=0)


def fruits(a: argparse.Namespace) -> Iterator[dict[str, Any]]:
    files = sorted(a.photos.glob("*/*/*.jpg"))[:: a.every]
    paths = [str(file.relative_to(a.photos)) for file in files]
    fitted: dict[Any, list[Fit]] = {}
    for step in FRUITS:
        views = [embed(f"fruits{a.every}", files, view, a) for view in step.ask]
        rows = []
        for seed in range(a.divisions):
            protocol = Protocol(label_level=2, hold_out_level=1, components=step.components, seed=seed)
            if (step.fit, protocol) not in fitted:
                (vectors,) = (embed(f"fruits{a.every}", files, view, a) for view in step.fit)
                fitted[step.fit, protocol] = list(fit_without(vectors, *folders_and_folds(paths, protocol), protocol))
            rows.append(held_out(fitted[step.fit, protocol], views, paths, step, protocol))
        means = np.array([row["folds"]["mean"] for row in rows])
        others = {"others_mean": means[1:].mean(), "others_deviation": means[1:].std()} if len(means) > 1 else {}
        yield {"step": step.name} | rows[0] | {name: round(float(its), 4) for name, its in others.items()}


def folders_and_folds(paths: Sequence[str], protocol: Protocol) -> tuple[list[str], NDArray[np.int64]]:
    """The folder of each photo, and in which tenth it is held out."""
    folders = [folder_of(path) for path in paths]
    fold_of = divide(sorted(set(folders)), protocol)
    return folders, np.array([fold_of[name] for name in folders])


def held_out(
    fitted: Sequence[Fit], views: Sequence[Vectors], paths: Sequence[str], step: Step, protocol: Protocol
) -> dict[str, Any]:
    """The figures of one division into tenths of the varieties; `verger evaluate` divides them as seed 0 does."""
    folders, folds = folders_and_folds(paths, protocol)
    kinds = [label_path(name, protocol.label_level, "") for name in folders]
    labels = sorted(set(kinds))
    probabilities = np.zeros((len(paths), len(labels)))
    answers: list[Any] = [None] * len(paths)
    for fold, projection, recogniser in fitted:
        held = np.flatnonzero(folds == fold)
        assert list(recogniser.labels) == labels
        probabilities[held], distances = look(recogniser, projection, [view[held] for view in views], step.sharpness)
        for i, answer in zip(held, recogniser.answers(probabilities[held], distances), strict=True):
            answers[i] = answer
    truth = np.array([labels.index(kind) for kind in kinds])
    return measure(Judged(tuple(labels), paths, truth, probabilities, answers, folds))


class Grocery(NamedTuple):
    files: list[Path]
    fine: NDArray[np.str_]
    coarse: NDArray[np.str_]
    fitted: NDArray[np.bool_]  # fruit and vegetables of train
    halves: tuple[NDArray[np.bool_], NDArray[np.bool_]]  # fruit and vegetables of validation
    packages: tuple[NDArray[np.bool_], NDArray[np.bool_]]


def read_grocery(root: Path) -> Grocery:
    files = sorted(root.glob("*/*/**/*.jpg"))
    with (root / "classes.csv").open(newline="") as table:
        coarse_of = {row["Class Name (str)"]: row["Coarse Class Name (str)"] for row in csv.DictReader(table)}
    steps = [file.relative_to(root).parts for file in files]
    split, top = np.array([one[0] for one in steps]), np.array([one[1] for one in steps])
    fine = np.array([one[-2] for one in steps])
    half = np.zeros(len(files), int)
    for label in np.unique(fine):
        own = np.flatnonzero((split == "validation") & (fine == label))
        half[own[len(own) // 2 :]] = 1
    validation, package = split == "validation", top == "Packages"
    halves = [(validation & ~package & (half == i), validation & package & (half == i)) for i in (0, 1)]
    known, packages = zip(*halves, strict=True)
    return Grocery(files, fine, np.array([coarse_of[n] for n in fine]), ~validation & ~package, known, packages)


def grocery(a: argparse.Namespace) -> Iterator[dict[str, Any]]:
    photos = read_grocery(a.photos)
    kinds, odd = zip(*strangers(a.strangers), strict=True)
    folders = photos.fine[photos.fitted].tolist()
    for step in GROCERY:
        looked = {view: embed("grocery", photos.files, view, a) for view in {*step.fit, *step.ask}}
        fitting = np.concatenate([looked[view][photos.fitted] for view in step.fit])
        statistics = Statistics.of(fitting, folders * len(step.fit))
        projection = fit_projection(statistics, step.components)
        sample = [LabelledPhoto(name, v) for name, v in zip(folders * len(step.fit), fitting, strict=True)]
        sample = sorted(sample, key=lambda photo: photo.folder)  # neighbours stay neighbours
        learnt = fit_recogniser(statistics, projection, {name: (name,) for name in set(folders)}, sample)
        assert learnt
        recogniser = learnt.recogniser
        views = [looked[view] for view in step.ask]
        probabilities, distances = look(recogniser, projection, views, step.sharpness)
        odd_views = [embed("strangers", odd, view, a) for view in step.ask]
        _, odd_distances = look(recogniser, projection, odd_views, step.sharpness)
        row: dict[str, Any] = {"step": step.name}
        for name, known, packages in zip(("chosen on", "reported on"), photos.halves, photos.packages, strict=True):
            row[name] = judge(photos, recogniser, probabilities[known], known)
            alarm = np.quantile(distances[known], 0.95)  # 5 % false alarms in these very shops
            found = {"packages": distances[packages]}
            found |= {kind: odd_distances[np.array(kinds) == kind] for kind in dict.fromkeys(kinds)}
            row[name] |= {"false_alarms": share(distances[known] > 1)}
            row[name] |= {f"{kind}_unknown": share(its > 1) for kind, its in found.items()}
            row[name] |= {f"{kind}_at_5_percent": share(its > alarm) for kind, its in found.items()}
        yield row


def judge(
    photos: Grocery, recogniser: Recogniser, probabilities: NDArray[np.float64], known: NDArray[np.bool_]
) -> dict[str, Any]:
    labels = np.array([path[0] for path in recogniser.labels])
    coarse_of = dict(zip(photos.fine, photos.coarse, strict=True))
    coarse = np.array([coarse_of[label] for label in labels])
    names = np.unique(coarse)
    of_coarse = np.stack([probabilities[:, coarse == name].sum(axis=1) for name in names], axis=1)
    answers = recogniser.answers(probabilities, np.zeros(len(probabilities)))
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label] for label in photos.fine[known]])
    figures = measure(Judged(recogniser.labels, [""] * len(truth), truth, probabilities, answers))
    right = names[of_coarse.argmax(axis=1)] == photos.coarse[known]
    kept = ("photos", "top1", "top3", "coverage", "accuracy_when_sure", "ece")
    return {"coarse": share(right)} | {name: figures[name] for name in kept}


def share(true: NDArray[np.bool_]) -> float:
    return round(float(np.mean(true)), 3)


def strangers(count: int) -> list[tuple[str, bytes]]:
    """Noise, drawings and rendered text, as many of each: (kind, PNG)."""
    rng = np.random.default_rng(5)
    made = []
    for i in range(count):
        side = int(rng.integers(200, 500))
        rough = rng.integers(0, 256, (side, side, 3) if i % 2 else (8, 8, 3), dtype=np.uint8)
        made.append(("noise", Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)))
        made += [("drawings", drawing(rng, side)), ("text", page(rng, side, dark=i % 3 == 0))]
    return [(kind, as_png(image)) for kind, image in made]


def as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def drawing(rng: np.random.Generator, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), tuple(rng.integers(200, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 14))):
        colour, points = tuple(rng.integers(0, 256, 3).tolist()), rng.integers(0, side, (4, 2))
        box = [*points[:2].min(axis=0).tolist(), *(points[:2].max(axis=0) + 2).tolist()]
        match int(rng.integers(0, 4)):
            case 0:
                pen.line([tuple(point) for point in points.tolist()], fill=colour, width=int(rng.integers(1, 8)))
            case 1:
                pen.ellipse(box, outline=colour, width=int(rng.integers(1, 8)))
            case 2:
                pen.rectangle(box, outline=colour, fill=colour if rng.random() < 0.4 else None)
            case _:
                pen.polygon([tuple(point) for point in points.tolist()], outline=colour)
    return image


def page(rng: np.random.Generator, side: int, *, dark: bool) -> Image.Image:
    words = ["the invoice", "total price", "date", "number 0123", "page", "chapter and", "or not is was", "45.99 EUR"]
    image = Image.new("RGB", (side, side), (20, 20, 30) if dark else "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=int(rng.integers(10, 40)))
    for y in range(8, side, int(font.size * 1.4)):
        pen.text((8, y), " ".join(rng.choice(words, 6)), fill="white" if dark else "black", font=font)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fruits", "grocery"])
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--cache", type=Path, required=True, help="folder that keeps the vectors")
    parser.add_argument("--weights", help="of mobilenet_v2")
    parser.add_argument(
        "--every", type=int, default=4, help="fruits: every so many photos; neighbours are almost alike"
    )
    parser.add_argument("--divisions", type=int, default=5, help="fruits: the one that is reported, and others")
    parser.add_argument("--strangers", type=int, default=60, help="grocery: how many of each odd kind are rendered")
    a = parser.parse_args()
    for row in fruits(a) if a.what == "fruits" else grocery(a):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
