from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests import zoo
from tfgreen.model.paths import replaceable_layers
from tfgreen.model.rebuild import compiled_copy, rebuild


def identity(path, layer):
    return layer


def assert_equal(one, other, x):
    for a, b in zip(keras.tree.flatten(one(x)), keras.tree.flatten(other(x)), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


@pytest.mark.parametrize("name", zoo.ZOO)
def test_a_copy_predicts_the_same_and_shares_nothing(name):
    model = zoo.ZOO[name]()
    copy = rebuild(model, identity)
    assert_equal(model, copy, zoo.sample(name))
    assert type(copy) is type(model)
    assert not {id(v) for v in model.weights} & {id(v) for v in copy.weights}
    copy.set_weights([w + 1 for w in copy.get_weights()])
    assert_equal(rebuild(model, identity), model, zoo.sample(name))


def test_replace_sees_each_layer_once_with_its_path():
    model, seen = zoo.shared_layer(), []
    rebuild(model, lambda path, layer: seen.append(path) or layer)
    assert sorted(seen) == sorted(path for path, _ in replaceable_layers(model))
    assert seen.count("shared") == 1


def test_a_layer_shared_between_a_model_and_a_nested_one_stays_shared():
    dense = layers.Dense(4, name="tied")
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, dense(inner_in), name="inner")
    inputs = keras.Input((4,))
    copy = rebuild(keras.Model(inputs, dense(inner(inputs))), identity)
    assert copy.get_layer("tied") is copy.get_layer("inner").get_layer("tied")
    assert len(copy.weights) == 2


def test_call_arguments_operations_and_structures_survive():
    image, scale = keras.Input((4, 4), name="image"), keras.Input((4,), name="scale")
    x = layers.MultiHeadAttention(2, 2, name="attention")(image, image, use_causal_mask=True)
    x = ops.relu(x * 2.0 + image)[:, 1:]
    x = ops.concatenate([x, ops.expand_dims(scale, 1)], axis=1)
    out, state_h, state_c = layers.LSTM(3, return_state=True)(x, initial_state=[scale[:, :3], scale[:, 1:]])
    model = keras.Model({"image": image, "scale": scale}, {"out": out, "states": [state_h, state_c]})
    copy = rebuild(model, identity)
    rng = np.random.default_rng(0)
    data = {"image": rng.normal(size=(2, 4, 4)).astype("float32"), "scale": rng.normal(size=(2, 4)).astype("float32")}
    assert_equal(model, copy, data)
    assert set(copy(data)) == {"out", "states"}


def test_dtype_policy_trainable_flags_and_constraints_are_carried_over():
    inputs = keras.Input((4,))
    x = layers.Dense(4, dtype="mixed_float16", kernel_constraint="non_neg", name="half")(inputs)
    frozen = layers.Dense(2, name="frozen", trainable=False)
    copy = rebuild(keras.Model(inputs, frozen(x)), identity)
    assert copy.get_layer("half").compute_dtype == "float16"
    assert copy.get_layer("half").kernel.constraint is not None
    assert not copy.get_layer("frozen").trainable and copy.get_layer("half").trainable

    whole = zoo.functional()
    whole.trainable = False
    whole.get_layer("hidden").trainable = True
    copy = rebuild(whole, identity)
    assert not copy.trainable and copy.get_layer("hidden").trainable
    assert not copy.get_layer("probabilities").trainable


def test_a_lambda_of_this_process_is_copied():
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x * 3.0, output_shape=(3,))])
    assert_equal(model, rebuild(model, identity), np.ones((1, 3), "float32"))


def test_a_layer_that_builds_its_sublayers_in_its_call_is_copied():
    class Lazy(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = [layers.Dense(3), layers.Dense(2)]

        def call(self, x):
            return self.inner[1](self.inner[0](x))

    inputs = keras.Input((4,))
    model = keras.Model(inputs, Lazy()(inputs))
    assert_equal(model, rebuild(model, identity), np.ones((1, 4), "float32"))


def test_a_compiled_copy_trains_as_the_model_does_and_leaves_it_alone():
    """With a loss that is not registered, which a config holds by its name only, and metrics with a state."""

    def loss(y, prediction):
        return keras.ops.mean(keras.ops.square(y - prediction), -1)

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    metrics = ["mae", keras.metrics.MeanSquaredError(name="square")]
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=metrics, jit_compile=False)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    before, copy = model.get_weights(), compiled_copy(model)
    history = copy.fit(x, x[:, :1], epochs=3, verbose=0, shuffle=False).history
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))
    assert float(metrics[1].result()) == 0 and int(model.optimizer.iterations) == 0
    assert model.fit(x, x[:, :1], epochs=3, verbose=0, shuffle=False).history == history
