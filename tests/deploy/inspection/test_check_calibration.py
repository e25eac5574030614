from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from tests import zoo
from tfgreen.deploy.conversion.config import ConvertConfig
from tfgreen.deploy.convert import convert
from tfgreen.deploy.inspection import check_calibration as module
from tfgreen.deploy.inspection.findings import Findings
from tfgreen.errors import InvalidTypeError, InvalidValueError


def check_calibration(model, data):
    """The findings as sentences; they are warnings, each about the data or a layer."""
    found = module.check_calibration(model, data)
    assert isinstance(found, Findings) and not found.errors
    return [str(finding) for finding in found]


def images(count=160, size=8, channels=3, seed=0):
    """Waves of 0 to 255, of another direction, length and brightness in each sample."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    a, b = rng.uniform(-0.6, 0.6, (2, count, 1, 1, channels))
    waves = np.sin(rows[None, :, :, None] * a + columns[None, :, :, None] * b + rng.uniform(0, 6, (count, 1, 1, 1)))
    return ((waves + 1) * rng.uniform(40, 127, (count, 1, 1, channels))).astype("float32")


def network(*first, classes=3):
    """Layers, then a small convolutional network with a BatchNormalization that has seen :func:`images`."""
    keras.utils.set_random_seed(0)
    body = [layers.Conv2D(4, 3), layers.BatchNormalization(name="bn"), layers.ReLU(), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input((8, 8, 3), name="image"), *first, *body, layers.Dense(classes, name="out")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    norm, x = model.get_layer("bn"), images(256, seed=1)
    before = keras.Model(model.inputs[0], norm.input)(x).numpy()
    norm.moving_mean.assign(before.mean((0, 1, 2)))
    norm.moving_variance.assign(before.var((0, 1, 2)))
    norm.gamma.assign([1.0, -0.5, 2.0, 0.0])
    norm.beta.assign([0.0, 3.0, -1.0, 1.0])
    return model


def balanced(model):
    """The model with an output that spreads over its classes."""
    out, x = model.get_layer("out"), images(128)
    logits = model(x).numpy()
    out.kernel.assign(out.kernel / logits.std(axis=0))
    out.bias.assign(-logits.mean(axis=0) / logits.std(axis=0))
    return model


def test_data_like_that_of_training_raises_no_word():
    assert not check_calibration(balanced(network()), images())
    assert not check_calibration(balanced(network(layers.Rescaling(1 / 255))), images())


@pytest.mark.parametrize("factor", [1 / 255, 255])
def test_another_scale_than_in_training_is_seen_in_the_batch_norm(factor):
    found = check_calibration(balanced(network()), images() * factor)
    assert any("Layer 'bn'" in text and "another scale" in text for text in found)


def test_a_batch_norm_that_never_trained_knows_nothing():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.BatchNormalization(), layers.Flatten()])
    assert not check_calibration(model, images())


def test_data_that_was_rescaled_before_the_model_does_it_is_seen():
    found = check_calibration(balanced(network(layers.Rescaling(1 / 255, name="scale"))), images() / 255)
    assert "Layer 'scale': it multiplies" in found[0] and "scaled before" in found[0]
    offset = network(layers.Rescaling(1 / 127.5, offset=-1.0, name="scale"))
    assert "Layer 'scale': it multiplies" in check_calibration(offset, images() / 255)[0]
    assert not any("multiplies" in text for text in check_calibration(offset, images()))


def test_a_rescaling_of_what_the_model_returns_says_nothing_of_the_data():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.Flatten(), layers.Rescaling(1e-3)])
    assert not check_calibration(model, images())


def test_a_normalization_layer_knows_its_data():
    norm = layers.Normalization(name="norm")
    x = images()
    norm.adapt(x)
    model = keras.Sequential([keras.Input((8, 8, 3)), norm, layers.Flatten()])
    assert not check_calibration(model, x)
    assert "Layer 'norm'" in check_calibration(model, x / 255)[0]


def test_random_images_are_told_from_pictures_and_series():
    model = keras.Sequential([keras.Input((8, 8, 3), name="image"), layers.Flatten()])
    noise = np.random.default_rng(0).uniform(0, 255, (100, 8, 8, 3))
    assert ["look" in text or "random" in text for text in check_calibration(model, noise)] == [True]
    assert not check_calibration(model, images())
    series = keras.Sequential([keras.Input((64, 2)), layers.Flatten()])  # white noise may well be what it is about
    assert not check_calibration(series, np.random.default_rng(0).normal(size=(100, 64, 2)))


def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8, 1).astype("float32") / 16, y


@pytest.mark.slow
@pytest.mark.parametrize(
    "scale, steps, momentum", [(1.0, 1, 0.99), (1.0, 60, 0.99), (255.0, 12, 0.99), (255.0, 60, 0.9)]
)
def test_no_split_of_the_training_data_is_blamed_however_short_the_training(scale, steps, momentum):
    x, y = digits()
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1))])
    for filters in (8, 16):
        for layer in (layers.Conv2D(filters, 3, use_bias=False), layers.BatchNormalization(momentum=momentum)):
            model.add(layer)
        model.add(layers.ReLU())
    for layer in (layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")):
        model.add(layer)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[: 16 * steps] * scale, y[: 16 * steps], batch_size=16, verbose=0)
    for seed in range(20):
        size = (64, 200, 500, 1797)[seed % 4]
        picked = np.random.default_rng(seed).choice(len(x), size, replace=False)
        assert not check_calibration(model, x[picked] * scale), seed
    if steps == 60:
        wrong = x * (255 if scale == 1.0 else 1)
        assert "another scale" in check_calibration(model, wrong)[0]


def test_colours_in_reverse_are_seen():
    tint = np.array([1.0, 0.7, 0.3], "float32")
    norm = layers.Normalization(name="norm")
    norm.adapt(images() * tint)
    model = keras.Sequential([keras.Input((8, 8, 3)), norm, layers.Flatten()])
    assert not check_calibration(model, images(seed=1) * tint)
    (text,) = check_calibration(model, (images(seed=1) * tint)[..., ::-1])
    assert "Layer 'norm': with its colours in reverse" in text and "x[..., ::-1]" in text


def test_vectors_have_no_neighbours_and_token_ids_no_scale():
    x = np.random.default_rng(0).normal(size=(200, 12))
    assert not check_calibration(keras.Sequential([keras.Input((12,)), layers.Dense(2)]), x)
    ids = zoo.sample("attention", 128)
    assert not any("random" in text or "never changes" in text for text in check_calibration(zoo.attention(), ids))


def test_few_samples_equal_samples_and_still_channels_are_named():
    model = keras.Sequential([keras.Input((8, 8, 3), name="image"), layers.Flatten()])
    assert "Calibration data: 10 samples are few" in check_calibration(model, images(10))[0]
    same = np.repeat(images(1), 80, axis=0)
    assert check_calibration(model, same) == ["Calibration data of input 'image': all 80 samples are the same."]
    x = images()
    x[..., 1] = 7.0
    assert "channel 1 (last axis) never changes" in check_calibration(model, x)[0]
    x[..., 2] = 0.0
    assert "channels 1, 2 (last axis) never changes" in check_calibration(model, x)[0]


def test_an_outlier_is_named():
    x = images()
    x[3, 0, 0, 0] = 1e5
    model = keras.Sequential([keras.Input((8, 8, 3), name="image"), layers.Flatten()])
    assert any("99.9th percentile" in text for text in check_calibration(model, x))


def test_a_feature_that_never_changes_and_a_class_that_is_never_predicted_may_be_so_in_training_too():
    model = keras.Sequential([keras.Input((12,)), layers.Dense(5, activation="softmax", kernel_initializer="zeros")])
    x = np.random.default_rng(0).normal(size=(200, 12))
    x[:, 3] = 0
    assert not check_calibration(model, x)


def test_inputs_are_checked_one_by_one_and_every_zoo_model_can_be():
    left = np.random.default_rng(0).normal(size=(80, 8, 8, 3))
    inputs = {"left": keras.Input((8, 8, 3), name="left"), "right": keras.Input((8, 8, 3), name="right")}
    model = keras.Model(inputs, layers.Flatten()(layers.Add()(list(inputs.values()))))
    (text,) = check_calibration(model, {"left": left, "right": images(80)})
    assert "input 'left'" in text and "random" in text
    for name, build in zoo.ZOO.items():
        assert isinstance(check_calibration(build(), zoo.sample(name, 4)), list)


def test_the_file_notes_what_was_found_and_a_generator_is_read_once():
    model = balanced(network())
    x = images()
    config = ConvertConfig(quantization="int8", calibration_data=(x[i : i + 16] for i in range(0, 160, 16)))
    assert convert(model, config).notes == ()
    config = ConvertConfig(
        quantization="int8", calibration="mse", calibration_data=(x[i : i + 16] / 255 for i in range(0, 160, 16))
    )
    with pytest.warns(UserWarning, match="far from model"):
        lite = convert(model, config)
    assert any("another scale" in note for note in lite.notes)


def test_bad_input():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten()])
    with pytest.raises(InvalidValueError, match="shape"):
        check_calibration(model, np.ones((4, 3)))
    with pytest.raises(InvalidTypeError):
        check_calibration("model", images())


def test_a_large_model_whose_classes_cannot_be_judged_runs_on_few_samples_at_a_time(monkeypatch):
    model, x, seen = network(classes=100), images(160, size=64), []
    large = keras.Sequential([keras.Input((64, 64, 3), name="image"), *model.layers])
    plain_call = layers.Conv2D.call
    monkeypatch.setattr(layers.Conv2D, "call", lambda self, x: seen.append(len(x)) or plain_call(self, x))
    check_calibration(large, x)
    assert max(seen) * 64 * 64 * 3 <= 2**18 and 16 <= sum(seen) < 64
