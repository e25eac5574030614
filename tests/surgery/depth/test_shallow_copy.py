from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.surgery.depth.cases import Listed, encoder

TOKENS = np.random.default_rng(0).integers(0, 20, (4, 6)).astype("int32")
VALUES = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")


def the_same(shallow: keras.Model, expected: keras.Model, x: np.ndarray, path: object) -> None:
    """What ``expected`` computes with the weights of ``shallow``, before and after saving."""
    expected.set_weights(shallow.get_weights())
    outputs = np.asarray(shallow(x))
    np.testing.assert_allclose(outputs, expected(x), rtol=1e-6, atol=1e-6)
    shallow.save(path)
    np.testing.assert_array_equal(keras.models.load_model(path)(x), outputs)


@pytest.mark.slow
@pytest.mark.parametrize("norm_first", [False, True])
def test_calls_of_a_graph_are_left_out(norm_first, tmp_path):
    model = encoder(4, norm_first=norm_first)
    before = model.get_weights()
    shallow = tg.shallow_copy(model, [0, 2])
    assert {"attention_0", "attention_2"} <= {layer.name for layer in shallow.layers}
    assert "attention_1" not in {layer.name for layer in shallow.layers}
    the_same(shallow, encoder(2, norm_first=norm_first), TOKENS, tmp_path / "m.keras")
    np.testing.assert_array_equal(shallow.get_layer("out_2").kernel, model.get_layer("out_2").kernel)
    shallow.get_layer("out_2").kernel.assign(0 * shallow.get_layer("out_2").kernel)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_layers_of_a_list_are_left_out_and_counted_in_the_config(tmp_path):
    model = Listed(5)
    model.build((None, 8))
    shallow = tg.shallow_copy(model, layers=3)
    assert shallow.get_config() == {"depth": 3} and model.depth == 5
    np.testing.assert_array_equal(shallow.blocks[1].kernel, model.blocks[2].kernel)
    expected = Listed(3)
    expected.build((None, 8))
    the_same(shallow, expected, VALUES, tmp_path / "m.keras")


def test_a_layer_called_several_times_is_called_less_often():
    shared, x = layers.Dense(8, "tanh", name="shared"), keras.Input((8,))
    model = keras.Model(x, shared(shared(shared(x))))
    np.testing.assert_allclose(tg.shallow_copy(model, 2)(VALUES), shared(shared(VALUES)), rtol=1e-6)


def test_what_was_adapted_and_the_state_of_layers_is_kept():
    blocks = [layer for _ in range(3) for layer in (layers.Dense(8), layers.BatchNormalization(), layers.ReLU())]
    norm = layers.Normalization()
    norm.adapt(VALUES)
    model = keras.Sequential([keras.Input((8,)), norm, *blocks, layers.Dense(2)])
    model.layers[5].moving_mean.assign(np.arange(8.0))
    shallow = tg.shallow_copy(model, [1])
    assert len(shallow.layers) == 5
    np.testing.assert_array_equal(shallow.layers[2].moving_mean, np.arange(8.0))
    np.testing.assert_array_equal(shallow.layers[0].mean, norm.mean)


@pytest.mark.slow
def test_a_copy_trains():
    shallow = tg.shallow_copy(encoder(3), 1)
    shallow.compile("adam", "mse")
    history = shallow.fit(TOKENS, np.ones((4, 3)), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


@pytest.mark.parametrize(
    ("error", "match", "layers_"),
    [
        (ValueError, "layers.*integer >= 1 and <= 4.*received 5", 5),
        (ValueError, "layers.*received 0", 0),
        (ValueError, r"numbers from 0 to 3 \(the 4 layers of model.*received \[0, 3, 6\]", [0, 3, 6]),
        (ValueError, r"received \[-1\]", [-1]),
        (ValueError, "each once, ascending", [2, 1]),
        (ValueError, "each once", [1, 1]),
        (ValueError, "layers", []),
        (TypeError, "layers.*integer", "two"),
        (TypeError, "layers.*integers", [0.5]),
    ],
)
def test_bad_layers(error, match, layers_):
    with pytest.raises(error, match=match):
        tg.shallow_copy(encoder(4), layers_)


def test_models_that_it_refuses():
    with pytest.raises(ValueError, match="repeats no blocks"):
        tg.shallow_copy(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), 1)
    with pytest.raises(ValueError, match="compressed.*strip"):
        tg.shallow_copy(tg.prune(encoder(2)), 1)
    with pytest.raises(TypeError, match="keras.Model"):
        tg.shallow_copy("model", 1)
