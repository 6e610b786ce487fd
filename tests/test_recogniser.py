import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import photo
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.covariance import OAS
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from verger.confidence import fit_temperature, fit_threshold
from verger.discriminant import Discriminant, FolderStatistics, elsewhere, fit_discriminant, oas_shrinkage
from verger.errors import SettingError
from verger.evaluation import measure
from verger.gallery import choose_photos, gallery_bytes, read_gallery
from verger.labels import label_path
from verger.learning import LabelledPhoto, fit_recogniser
from verger.photos import Photos
from verger.projection import Projection, Statistics, fit_projection
from verger.recogniser import Recogniser, softmax
from verger.recogniser_graph import SHARPNESS, recogniser_graph, shrinking_weights

LENGTH, KINDS, VARIETIES, EACH = 20, 3, 12, 30
FOLDERS = [f"kind{i % KINDS}/variety{i:02}" for i in range(KINDS * VARIETIES)]


def orchard(seed: int = 0, folders: Sequence[str] = FOLDERS) -> tuple[np.ndarray, list[str]]:
    """Photos of varieties that differ within their kind, and kinds that differ more: vectors (n, 20), and folders."""
    rng = np.random.default_rng(seed)
    kinds = np.random.default_rng(1).normal(size=(KINDS, LENGTH)) * 3
    vectors = [
        kinds[int(name[4])] + rng.normal(size=LENGTH) + rng.normal(size=(EACH, LENGTH)) * np.linspace(0.2, 1, LENGTH)
        for name in folders
    ]
    return np.concatenate(vectors).astype(np.float32), [name for name in folders for _ in range(EACH)]


def labelled(folders: Sequence[str], level: int) -> dict[str, tuple[str, ...]]:
    return {name: label_path(name, level, "photos") for name in folders}


def gathered(vectors: np.ndarray, folders: list[str]) -> Statistics:
    """As Spark gathers them: block by block, merged."""
    blocks = [Statistics.of(vectors[i : i + 77], folders[i : i + 77]) for i in range(0, len(vectors), 77)]
    whole = blocks[0]
    for block in blocks[1:]:
        whole = whole.merge(block)
    return whole


def fitted(level: int = 2, components: int = 8) -> tuple[Projection, Recogniser]:
    vectors, folders = orchard()
    statistics = gathered(vectors, folders)
    projection = fit_projection(statistics, components)
    photos = [LabelledPhoto(name, vector) for name, vector in zip(folders, vectors, strict=True)]
    learnt = fit_recogniser(statistics, projection, labelled(FOLDERS, level), photos)
    assert learnt is not None
    return projection, learnt.recogniser


def test_what_is_held_out_are_whole_folders_only_where_every_label_has_several() -> None:
    vectors, folders = orchard()
    statistics = gathered(vectors, folders)
    photos = [LabelledPhoto(name, vector) for name, vector in zip(folders, vectors, strict=True)]
    kinds, varieties = (
        fit_recogniser(statistics, fit_projection(statistics, 8), labelled(FOLDERS, level), photos) for level in (2, 1)
    )
    assert kinds is not None
    assert varieties is not None
    assert (kinds.whole_folders, varieties.whole_folders) == (True, False)
    judged = kinds.judge()
    assert len(judged.truth) == len(vectors)
    assert measure(judged)["top1"] > 0.9
    assert 0.02 < measure(judged)["unknown"] < 0.08  # a twentieth, as its threshold was fitted on these


@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
@pytest.mark.parametrize("level", [1, 2])
def test_means_taken_at_their_word_give_scikit_learns_discriminant(solver: str, level: int) -> None:
    vectors, folders = orchard()
    statistics = gathered(vectors, folders)
    projection = fit_projection(statistics, 8)
    ours = fit_discriminant(FolderStatistics.of(statistics, projection, labelled(FOLDERS, level)), places=1e12)
    names = ["/".join(label_path(name, level, "photos")) for name in folders]
    theirs = LinearDiscriminantAnalysis(solver=solver, shrinkage=ours.shrinkage, priors=None)
    components = (vectors.astype(np.float64) - projection.mean) @ projection.components
    theirs.fit(components, names)
    assert ["/".join(path) for path in ours.classes] == theirs.classes_.tolist()
    scores, decisions = ours.scores(components), theirs.decision_function(components)
    # Scores have a constant for each photo that cancels; classes of one size have equal priors.
    difference = (scores - scores[:, :1]) - (decisions - decisions[:, :1])
    assert np.abs(difference).max() < 1e-6 * np.abs(scores).max()
    np.testing.assert_allclose(np.linalg.inv(ours.covariance) @ theirs.covariance_ if solver == "lsqr" else np.eye(8),
                               np.eye(8), atol=1e-6)  # fmt: skip


def test_means_fall_back_as_bayes_says() -> None:
    """The known posterior of a normal mean: seen in two places, with a normal prior over the classes."""
    rng = np.random.default_rng(0)
    means, within = rng.normal(size=(5, 3)) * [3, 1, 0.1], np.cov(rng.normal(size=(3, 20)))
    between = np.cov(means.T, bias=True)
    gain = 2 * between @ np.linalg.inv(2 * between + within)
    expected, scatter = elsewhere(means, within, places=2)
    np.testing.assert_allclose(expected, means.mean(axis=0) + (means - means.mean(axis=0)) @ gain.T, rtol=1e-9)
    np.testing.assert_allclose(scatter, within + between - gain @ between, rtol=1e-9)


def test_a_label_with_more_folders_is_taken_more_at_its_word() -> None:
    def spread(folders_each: int) -> float:
        labels = tuple((f"kind{i % 4}",) for i in range(4 * folders_each))
        means = np.repeat(np.eye(4)[None], folders_each, axis=0).reshape(-1, 4)
        fit = fit_discriminant(FolderStatistics(labels, np.full(len(labels), 9.0), means, np.eye(4)))
        return float(np.ptp(fit.means))

    assert spread(1) < spread(3) < spread(30) < 1


def test_the_shrinkage_is_scikit_learns_oas() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 10)) @ rng.normal(size=(10, 10))
    vectors -= vectors.mean(axis=0)
    assert oas_shrinkage(vectors.T @ vectors / 40, 40) == pytest.approx(OAS().fit(vectors).shrinkage_, rel=1e-9)


def test_taking_photos_away_again_leaves_the_statistics_of_the_others() -> None:
    vectors, folders = orchard()
    whole, part = gathered(vectors, folders), gathered(vectors[:100], folders[:100])
    left, expected = whole.without(part), gathered(vectors[100:], folders[100:])
    assert left.count == expected.count
    np.testing.assert_allclose(left.mean, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(left.scatter, expected.scatter, rtol=1e-7, atol=1e-7)
    assert left.folders is not None
    assert expected.folders is not None
    assert {name: its.count for name, its in left.folders.items()} == {
        name: its.count for name, its in expected.folders.items()
    }


def test_too_many_folders_are_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, folders = orchard()
    assert len(gathered(vectors, folders).folders or {}) == len(FOLDERS)
    monkeypatch.setattr("verger.projection.MAX_FOLDERS", len(FOLDERS) - 1)
    assert gathered(vectors, folders).folders is None


def test_labels_with_too_few_photos_make_no_recogniser() -> None:
    vectors, folders = orchard(folders=FOLDERS[:2])
    vectors, folders = vectors[: EACH + 4], folders[: EACH + 4]  # 30 of one label, 4 of another
    statistics = gathered(vectors, folders)
    photos = [LabelledPhoto(name, vector) for name, vector in zip(folders, vectors, strict=True)]
    assert fit_recogniser(statistics, fit_projection(statistics, 4), labelled(FOLDERS, 1), photos) is None


def test_about_one_in_twenty_photos_of_new_varieties_is_called_unknown_and_noise_always() -> None:
    projection, recogniser = fitted()
    new, folders = orchard(seed=9)
    components = projection.apply(new)
    answers = recogniser.answer(components, projection.residuals(new, components))
    assert 0.01 < np.mean([not answer.known for answer in answers]) < 0.12
    assert np.mean([answer.guesses[0].label == name[:5] for answer, name in zip(answers, folders, strict=True)]) > 0.9
    noise = np.random.default_rng(0).normal(size=(200, LENGTH)) * 8
    components = projection.apply(noise)
    assert not any(answer.known for answer in recogniser.answer(components, projection.residuals(noise, components)))


def test_the_threshold_allows_for_what_the_projection_has_not_seen() -> None:
    """Many numbers, few varieties: components fit what they were fitted on, and leave out more of a new variety."""
    rng = np.random.default_rng(0)

    def varieties() -> np.ndarray:
        kinds = np.repeat([[0.0], [2.0]], 12, axis=0)
        centres = kinds + rng.normal(size=(24, 150))
        return (np.repeat(centres, 10, axis=0) + 0.3 * rng.normal(size=(240, 150))).astype(np.float32)

    folders = [f"kind{i // 12}/variety{i:02}" for i in range(24) for _ in range(10)]
    vectors, new = varieties(), varieties()
    statistics = gathered(vectors, folders)
    projection = fit_projection(statistics, 20)
    photos = [LabelledPhoto(name, vector) for name, vector in zip(folders, vectors, strict=True)]
    learnt = fit_recogniser(statistics, projection, labelled(sorted(set(folders)), 2), photos)
    assert learnt is not None
    components = projection.apply(new)
    assert (learnt.recogniser.distances(components, projection.residuals(new, components)) > 1).mean() < 0.2


def test_a_sample_of_the_photos_tells_nearly_what_all_of_them_do() -> None:
    """Varieties that each vary in directions of their own: a few photos say too much of how they do."""
    rng = np.random.default_rng(2)
    folders = [f"kind{i % 2}/variety{i:02}" for i in range(20) for _ in range(80)]
    vectors = np.concatenate([
        0.3 * (i % 2) + 0.5 * rng.normal(size=120)
        + rng.normal(size=(80, 6)) @ rng.normal(size=(6, 120)) + 0.3 * rng.normal(size=(80, 120))
        for i in range(20)
    ]).astype(np.float32)  # fmt: skip
    statistics = gathered(vectors, folders)
    projection = fit_projection(statistics, 60)
    photos = [LabelledPhoto(name, vector) for name, vector in zip(folders, vectors, strict=True)]
    label_of = labelled(sorted(set(folders)), 2)
    all_of_them, some = (fit_recogniser(statistics, projection, label_of, photos[::every]) for every in (1, 4))
    assert all_of_them is not None
    assert some is not None
    assert some.recogniser.temperature == pytest.approx(all_of_them.recogniser.temperature, rel=0.5)
    assert some.recogniser.threshold == pytest.approx(all_of_them.recogniser.threshold, rel=0.1)


def test_temperature_undoes_what_made_scores_too_bold() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 4)) * 2
    chances = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(4, p=row) for row in chances])
    assert fit_temperature(3 * honest, truth) == pytest.approx(3, rel=0.05)


def test_the_threshold_lets_one_known_photo_in_twenty_pass() -> None:
    squares = np.random.default_rng(0).chisquare(8, 10_000)
    assert (squares > fit_threshold(squares)).mean() == pytest.approx(0.05, abs=1e-3)


LABELS = (("Braeburn", "Apple"), ("Golden", "Apple"), ("Conference", "Pear"))


@pytest.mark.parametrize(
    ("probabilities", "distance", "label", "probability"),
    [
        ([0.9, 0.06, 0.04], 0.5, "Braeburn", 0.9),
        ([0.5, 0.4, 0.1], 0.5, "Apple", 0.9),
        ([0.5, 0.1, 0.4], 0.5, None, 0.5),  # sure of nothing
        ([0.9, 0.06, 0.04], 1.01, None, 0.9),  # unknown
    ],
)
def test_it_answers_at_the_finest_level_it_is_sure_of(
    probabilities: list[float], distance: float, label: str | None, probability: float
) -> None:
    flat = np.zeros(3)
    recogniser = Recogniser(LABELS, np.zeros((2, 3)), flat, np.eye(2), 0.0, 1.0, 1.0, "f00d")
    (answer,) = recogniser.answers(np.array([probabilities]), np.array([distance]))
    assert (answer.label, answer.sure, answer.known) == (label, label is not None, distance <= 1)
    assert answer.probability == pytest.approx(probability)
    assert answer.guesses[0].label == "Braeburn"
    assert answer.guesses[0].parents == ("Apple",)
    assert [guess.probability for guess in answer.guesses] == sorted(probabilities, reverse=True)


def test_it_is_saved_and_read_without_pickle() -> None:
    _, recogniser = fitted(level=1)
    content = recogniser.to_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert arrays["coefficients"].shape == (8, len(FOLDERS))
    read = Recogniser.from_bytes(content)
    assert read.labels == recogniser.labels
    assert read.to_bytes() == content
    with pytest.raises(SettingError, match=r"a recogniser\.npz that Verger wrote"):
        Recogniser.from_bytes(b"words")


def lopsided() -> tuple[bytes, np.ndarray]:
    """A network that sees left and right differently: a product of the pixels with a matrix."""
    matrix = np.random.default_rng(2).normal(size=(8 * 8 * 3, LENGTH)).astype(np.float32) / 1000
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "matrix"], ["vector"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 3])
    vector = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", LENGTH])
    graph = helper.make_graph(nodes, "lopsided", [pixels], [vector], [numpy_helper.from_array(matrix, "matrix")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString(), matrix


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Photos uint8 (n, large, large, 3) → (n, side, side, 3)."""
    weights = shrinking_weights(pixels.shape[1], side)
    rows = np.einsum("ih,nhwc->niwc", weights, pixels.astype(np.float64))
    return (np.einsum("jw,niwc->nijc", weights, rows) + 0.5).astype(np.uint8)


def test_photos_are_shrunk_as_pillow_does_it() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (1, 448, 448, 3), dtype=np.uint8)
    pillow = np.asarray(Image.fromarray(pixels[0]).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.abs(shrunk(pixels, 224)[0].astype(int) - pillow).max() <= 1


def test_the_onnx_graph_looks_at_all_views_and_gives_the_same_numbers() -> None:
    projection, recogniser = fitted(level=1)
    graph, matrix = lopsided()
    pixels = np.random.default_rng(3).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    looks = (shrunk(pixels, 8), pixels[:, 4:12, 4:12][:, :, ::-1])  # whole, and the inner half mirrored
    vectors = [look.reshape(5, -1).astype(np.float64) @ matrix for look in looks]
    components = [projection.apply(some) for some in vectors]
    far = np.stack(
        [recogniser.distances(z, projection.residuals(x, z)) for x, z in zip(vectors, components, strict=True)]
    )
    mean = float(far.mean())
    far /= mean
    shares = softmax(-SHARPNESS * far.T).T
    assert 0.01 < shares.min() < 0.4
    scores = sum(share[:, None] * recogniser.scores(z) for share, z in zip(shares, components, strict=True))
    # Numbers that show every term: photos near what is known, and sure of nothing.
    recogniser = replace(recogniser, threshold=recogniser.threshold * mean, temperature=float(np.std(scores)))
    fused = recogniser_graph(graph, projection, recogniser)
    onnx.checker.check_model(onnx.ModelProto.FromString(fused))
    session = onnxruntime.InferenceSession(fused, providers=["CPUExecutionProvider"])
    probabilities, distances = session.run(["probabilities", "distance"], {"pixels": pixels})
    np.testing.assert_allclose(probabilities, softmax(scores / recogniser.temperature), atol=1e-3)
    np.testing.assert_allclose(distances, (shares * far).sum(axis=0), rtol=1e-3)


def test_the_gallery_keeps_three_pictures_of_each_label() -> None:
    photos = Photos.of([photo(f"{label}/{i}.jpg", label) for label in ("apple", "pear") for i in range(9)])
    chosen = choose_photos(photos)
    assert [one.path for one in chosen] == [f"{label}/{i}.jpg" for label in ("apple", "pear") for i in (1, 4, 7)]
    content = gallery_bytes([("apple", b"one"), ("pear", b""), ("apple", b"three")])
    assert read_gallery(content) == {"apple": [b"one", b"three"]}
    with pytest.raises(SettingError, match=r"gallery\.npz"):
        read_gallery(b"words")


def test_a_discriminant_knows_how_far_the_nearest_class_is() -> None:
    means = np.array([[0.0, 0.0], [3.0, 4.0]])
    discriminant = Discriminant((("a",), ("b",)), means, np.eye(2), 0.0, means.T, -0.5 * (means**2).sum(axis=1))
    np.testing.assert_allclose(discriminant.squares(np.array([[0.0, 1.0], [3.0, 6.0]])), [1.0, 4.0], atol=1e-12)
