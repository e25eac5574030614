from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tfgreen.model.paths import walk
from tfgreen.training.progressive_resizing import ProgressiveResizing


def network(*end, size=(16, 12), nested=False) -> keras.Model:
    keras.utils.set_random_seed(0)
    body = [keras.Input((*size, 3)), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    end = end or (layers.GlobalAveragePooling2D(), layers.Dense(2))
    if nested:
        return keras.Sequential([keras.Input((*size, 3)), keras.Sequential(body, name="body"), *end])
    return keras.Sequential([*body, *end])


class _Sizes(keras.layers.Layer):
    """Notes the sizes that it sees in training."""

    def __init__(self):
        super().__init__()
        self.seen = self.add_weight(shape=(2,), initializer="zeros", trainable=False, name="seen")

    def call(self, x, training=None):
        if training:
            self.seen.assign(keras.ops.cast(keras.ops.shape(x)[1:3], "float32"))
        return x

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("nested", [False, True])
def test_sizes_grow_to_the_full_one_and_evaluation_has_it_always(nested):
    model = network(_Sizes(), layers.GlobalAveragePooling2D(), layers.Dense(2), nested=nested)
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 16, 12, 3)).astype("float32")
    spy = next(layer for layer in model.layers if isinstance(layer, _Sizes))
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(spy.seen.numpy().tolist()))
    run = tg.fit(model, (x, x[:, 0, 0, :2]), epochs=10, batch_size=4, resize=0.5, callbacks=[note], verbose=0)
    assert seen[0] == seen[4] == [8, 4] and seen[8] == seen[9] == [16, 12]
    assert seen == sorted(seen) and len(set(map(tuple, seen))) > 2
    assert run.savings["resize"] == "on: from (8, 4) to (16, 12)"
    assert not any("_manual_input_spec" in vars(layer) for _, layer in [("", model), *walk(model)])


@pytest.mark.parametrize(
    "model, message",
    [
        (lambda: network(layers.Flatten(name="flat"), layers.Dense(2, name="head")), "'(flat|head)'.*smaller images"),
        (lambda: network(layers.Conv2D(2, 3)), "smaller images.*outputs of shapes"),
        (lambda: network(size=(None, None)), "known size"),
        (lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]), "one image input"),
        (lambda: network(layers.Reshape((192, 4), name="fixed"), layers.GlobalAveragePooling1D()), "'fixed'"),
    ],
    ids=["flatten", "map", "open", "vector", "reshape"],
)
def test_networks_that_need_the_full_size_are_refused_with_the_layer(model, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveResizing(model(), 0.5, epochs=4)


def test_images_of_integers_are_refused():
    model = keras.Sequential([keras.Input((16, 16, 3), dtype="uint8"), layers.Rescaling(1 / 255)])
    with pytest.raises(ValueError, match="floats.*uint8"):
        ProgressiveResizing(model, 0.5, epochs=4)
