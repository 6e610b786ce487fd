"""The TensorFlow engine: Keras models taken apart on the driver and rebuilt where they run."""

import pickle
import sys
import warnings

import numpy as np
import pytest

from verger.backbone import load_backbone
from verger.errors import MissingError, SettingError
from verger.keras_engine import import_keras

pytestmark = pytest.mark.tensorflow
PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 33, 33, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("tensorflow", reason="TensorFlow is an extra")
    module = import_keras()[1]
    module.utils.set_random_seed(0)
    return module


def saved(model, path):
    with warnings.catch_warnings():
        # Keras' own conversion of its variables, while saving, does not know NumPy 2's `copy`; Verger never saves.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        model.save(path)
    return str(path)


def scattered(model):
    """Weights as different from one another as trained ones; fresh batch normalisations would hide mistakes."""
    rng = np.random.default_rng(1)
    model.set_weights([w * rng.uniform(0.5, 1.5, w.shape) + rng.uniform(0, 0.1, w.shape) for w in model.get_weights()])
    return model


def by_keras(model, images):
    answer = np.asarray(model(images.astype(np.float32), training=False))
    return answer.mean(axis=(1, 2)) if answer.ndim == 4 else answer


def assert_close(answer, expected):
    assert answer.shape == expected.shape
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.fixture(scope="module")
def mobilenet(keras, tmp_path_factory):
    """Keras' MobileNetV2 for 33 × 33 pixels (odd sides pad differently), its two weights files, and the cache."""
    folder = tmp_path_factory.mktemp("mobilenet")
    model = scattered(
        keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", input_shape=(33, 33, 3))
    )
    saved(model, folder / "legacy.h5")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        model.save_weights(folder / "keras3.weights.h5")
    return model, folder


@pytest.mark.parametrize("engine", ["onnx", "tensorflow"])
@pytest.mark.parametrize("file", ["legacy.h5", "keras3.weights.h5"])
def test_mobilenet_answers_as_keras_does_from_both_layouts(mobilenet, engine, file):
    model, folder = mobilenet
    backbone = load_backbone("mobilenet_v2", weights=str(folder / file), engine=engine, image_size=33, cache=folder)
    assert (backbone.engine, backbone.vector_length, backbone.normalisation) == (engine, 1280, "signed")
    assert_close(backbone.load()(PHOTOS), by_keras(model, PHOTOS / 127.5 - 1))


def test_the_weights_travel_apart_from_the_architecture(mobilenet):
    model, folder = mobilenet
    weights = str(folder / "legacy.h5")
    backbone = load_backbone("mobilenet_v2", weights=weights, engine="tensorflow", image_size=33, cache=folder)
    assert len(backbone.graph) < 200_000  # JSON
    assert sum(array.size for array in backbone.weights) == model.count_params() == 2_257_984
    arrived = pickle.loads(pickle.dumps(backbone))
    np.testing.assert_array_equal(arrived.load()(PHOTOS), backbone.load()(PHOTOS))
    onnx = load_backbone("mobilenet_v2", weights=weights, image_size=33, cache=folder)
    assert onnx.fingerprint != backbone.fingerprint


def test_trained_mobilenet_answers_alike_on_both_engines(keras, tmp_path, mobilenet_weights):
    rng = np.random.default_rng(2)
    photos = rng.integers(0, 256, (2, 7, 7, 3), dtype=np.uint8).repeat(32, axis=1).repeat(32, axis=2)
    both = [
        load_backbone("mobilenet_v2", weights=str(mobilenet_weights), engine=engine, cache=tmp_path).load()(photos)
        for engine in ("onnx", "tensorflow")
    ]
    assert_close(*both)


def test_a_keras_file_that_rescales_gets_raw_pixels_and_its_map_is_averaged(keras, tmp_path):
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Rescaling(1 / 255), layers.Conv2D(7, 3)])
    backbone = load_backbone(saved(model, tmp_path / "mine.keras"), image_size=33)
    assert (backbone.name, backbone.engine, backbone.normalisation) == ("mine", "tensorflow", "raw")
    assert_close(backbone.load()(PHOTOS), by_keras(model, PHOTOS))


def test_a_keras_file_without_rescaling_gets_signed_pixels_unless_told_otherwise(keras, tmp_path):
    model = keras.Sequential([keras.Input((33, 33, 3)), keras.layers.Conv2D(7, 3), keras.layers.Flatten()])
    path = saved(model, tmp_path / "mine.keras")
    assert_close(load_backbone(path, image_size=33).load()(PHOTOS), by_keras(model, PHOTOS / 127.5 - 1))
    assert_close(load_backbone(path, image_size=33, normalisation="unit").load()(PHOTOS), by_keras(model, PHOTOS / 255))


def test_a_normalisation_layer_keeps_what_it_learned(keras, tmp_path):
    normalise = keras.layers.Normalization()
    normalise.adapt(PHOTOS.astype(np.float32))
    inner = keras.Sequential([keras.Input((33, 33, 3)), normalise, keras.layers.Dropout(0.5)])
    model = keras.Sequential([keras.Input((33, 33, 3)), inner, keras.layers.GlobalAveragePooling2D()])
    backbone = load_backbone(saved(model, tmp_path / "mine.keras"), image_size=33)
    assert backbone.normalisation == "raw"
    assert_close(backbone.load()(PHOTOS), by_keras(model, PHOTOS))


def test_a_lambda_layer_is_refused_and_not_run(keras, tmp_path):
    mark = tmp_path / "it-ran"

    def touch(x):
        mark.touch()
        return x

    path = saved(keras.Sequential([keras.Input((33, 33, 3)), keras.layers.Lambda(touch)]), tmp_path / "mine.keras")
    mark.unlink()  # saving ran it
    with pytest.raises(SettingError, match="Lambda"):
        load_backbone(path, image_size=33)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("shape", "layer", "message"),
    [
        ((48, 48, 3), "Conv2D", "Give --image-size 48."),
        ((33, 48, 3), "Conv2D", "Only square images"),
        ((33, 33, 1), "Conv2D", "RGB images"),
        ((33, 3), "Flatten", "RGB images"),
    ],
)
def test_a_model_for_other_images_is_refused(keras, tmp_path, shape, layer, message):
    made = keras.layers.Conv2D(4, 3) if layer == "Conv2D" else keras.layers.Flatten()
    path = saved(keras.Sequential([keras.Input(shape), made]), tmp_path / "mine.keras")
    with pytest.raises(SettingError) as caught:
        load_backbone(path, image_size=33)
    assert message in str(caught.value)


def test_what_is_no_keras_file_is_refused(keras, tmp_path):
    (tmp_path / "mine.keras").write_bytes(b"not a model")
    with pytest.raises(SettingError, match="Keras 3 format"):
        load_backbone(str(tmp_path / "mine.keras"), image_size=33)


def test_without_tensorflow_the_message_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # what Python itself does where a module must not be found
    (tmp_path / "mine.keras").write_bytes(b"never read")
    with pytest.raises(MissingError, match=r"pip install 'verger\[tensorflow\]'"):
        load_backbone(str(tmp_path / "mine.keras"), image_size=33)
