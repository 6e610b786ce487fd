import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from verger import RunFailedError, SettingError
from verger.projection import Projection, Statistics, fit_projection

SQUARE = np.array([[1.0, 1.0], [1.0, 3.0], [5.0, 1.0], [5.0, 3.0]])  # variances 16/3 and 4/3: shares .8 and .2


def blobs(count: int = 300, length: int = 20, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(7)
    return rng.normal(size=(count, length)) @ rng.normal(size=(length, length)) + offset


def test_a_square_has_the_variance_one_computes_in_the_head() -> None:
    projection = fit_projection(Statistics.of(SQUARE), 2)
    np.testing.assert_allclose(projection.variance, [16 / 3, 4 / 3])
    np.testing.assert_allclose(projection.components, [[1, 0], [0, 1]], atol=1e-12)
    np.testing.assert_allclose(projection.apply(SQUARE), [[-2, -1], [-2, 1], [2, -1], [2, 1]], atol=1e-6)
    assert fit_projection(Statistics.of(SQUARE), 1).explained_variance == pytest.approx(0.8)


@pytest.mark.parametrize(("share", "kept"), [(0.5, 1), (0.8, 1), (0.81, 2), (1.0, 2)])
def test_a_share_keeps_the_fewest_components_that_reach_it(share: float, kept: int) -> None:
    assert fit_projection(Statistics.of(SQUARE), share).components.shape == (2, kept)


def test_the_whole_variance_needs_no_more_than_the_rank() -> None:
    flat = np.hstack([blobs(50, 3), np.zeros((50, 4))])
    assert fit_projection(Statistics.of(flat), 1.0).components.shape == (7, 3)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_components_equal_scikit_learns_up_to_sign(offset: float) -> None:
    vectors = blobs(offset=offset)
    ours, theirs = fit_projection(Statistics.of(vectors), 5), PCA(5, svd_solver="full").fit(vectors)
    signs = np.sign(np.sum(ours.components * theirs.components_.T, axis=0))
    np.testing.assert_allclose(ours.components * signs, theirs.components_.T, atol=1e-6)
    np.testing.assert_allclose(ours.variance, theirs.explained_variance_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_ratio_.sum(), rtol=1e-9)
    np.testing.assert_allclose(ours.apply(vectors) * signs, theirs.transform(vectors), atol=1e-4)


def test_standardised_components_equal_scikit_learns_on_scaled_vectors() -> None:
    vectors = blobs()
    ours = fit_projection(Statistics.of(vectors), 5, standardise=True)
    scaled = StandardScaler().fit_transform(vectors)
    theirs = PCA(5, svd_solver="full").fit(scaled)
    assert ours.standardised
    assert ours.total_variance == pytest.approx(20)
    np.testing.assert_allclose(ours.explained_variance, theirs.explained_variance_ratio_.sum(), rtol=1e-9)
    np.testing.assert_allclose(np.abs(ours.components), np.abs(theirs.components_.T), atol=1e-6)


def test_an_entry_that_never_varies_survives_standardising() -> None:
    vectors = np.hstack([blobs(50, 3), np.full((50, 1), 7.0)])
    assert np.isfinite(fit_projection(Statistics.of(vectors), 2, standardise=True).apply(vectors)).all()


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 59), max_size=5), offset=st.sampled_from([0.0, 1e6]))
def test_merging_blocks_in_any_cut_gives_the_statistics_of_the_whole(cuts: list[int], offset: float) -> None:
    vectors = blobs(60, 4, offset)
    blocks = [block for block in np.split(vectors, sorted(cuts)) if len(block)]
    merged = Statistics.of(blocks[0])
    for block in blocks[1:]:
        merged = merged.merge(Statistics.of(block))
    assert merged.count == 60
    np.testing.assert_allclose(merged.mean, vectors.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.scatter / 59, np.cov(vectors.T), rtol=1e-6, atol=1e-6)


def test_the_largest_loading_of_each_component_is_positive() -> None:
    components = fit_projection(Statistics.of(blobs()), 20).components
    assert (components[np.abs(components).argmax(axis=0), np.arange(20)] > 0).all()


def test_saving_and_loading_changes_nothing_and_is_the_same_twice() -> None:
    projection = fit_projection(Statistics.of(blobs()), 5, fingerprint="abc")
    again = Projection.from_bytes(projection.to_bytes())
    np.testing.assert_array_equal(again.apply(blobs()), projection.apply(blobs()))
    assert (again.fingerprint, again.explained_variance) == ("abc", projection.explained_variance)
    assert again.to_bytes() == projection.to_bytes()


@pytest.mark.parametrize("content", [b"", b"PK nonsense", b"\x80\x04K\x01."])  # the last one is a pickle
def test_a_file_that_is_no_projection_is_refused(content: bytes) -> None:
    with pytest.raises(SettingError, match="without --keep-projection"):
        Projection.from_bytes(content)


def test_more_components_than_vectors_are_refused() -> None:
    with pytest.raises(RunFailedError, match=r"at most 2 components of 2 vectors.*components=3"):
        fit_projection(Statistics.of(blobs(2)), 3)


@pytest.mark.parametrize("vectors", [np.ones((1, 4)), np.ones((9, 4))])
def test_a_share_of_no_variance_is_refused(vectors: np.ndarray) -> None:
    with pytest.raises(RunFailedError, match=r"without any variance.*--components 1"):
        fit_projection(Statistics.of(vectors), 0.9)


def test_statistics_travel_as_they_are() -> None:
    vectors = np.random.default_rng(0).normal(size=(30, 7)) + 5
    sent = Statistics.of(vectors, ["a", "b", "a"] * 10)
    came = pickle.loads(pickle.dumps(sent))
    np.testing.assert_array_equal(came.scatter, sent.scatter)
    np.testing.assert_array_equal(came.mean, sent.mean)
    assert (came.count, came.folders["b"].count) == (30, 10)
    np.testing.assert_allclose(came.folders["a"].sum, vectors[[i for i in range(30) if i % 3 != 1]].sum(axis=0))
