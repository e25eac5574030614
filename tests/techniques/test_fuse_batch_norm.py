from __future__ import annotations

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tfgreen.model.rebuild import rebuild


def network(**settings) -> keras.Model:
    """Images, vectors and sequences through a batch normalization each, with weights that are no ones and zeros."""
    keras.utils.set_random_seed(0)
    image, sequence = keras.Input((6, 5, 3), name="image"), keras.Input((None, 4), name="sequence")
    x = layers.BatchNormalization(**settings)(layers.Conv2D(8, 3, use_bias=False)(image))
    x = layers.BatchNormalization(scale=False, **settings)(layers.Dense(6)(layers.Flatten()(layers.ReLU()(x))))
    y = layers.BatchNormalization(center=False, momentum=0.5, **settings)(layers.Conv1D(6, 2)(sequence))
    outputs = layers.Dense(3)(layers.Add()([x, layers.GlobalMaxPooling1D()(y)]))
    model = keras.Model({"image": image, "sequence": sequence}, outputs)
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.2, 1.5, w.shape) for w in model.weights])
    return model


def data(count: int = 12) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    x = {"image": rng.normal(1, 2, (count, 6, 5, 3)), "sequence": rng.normal(3, 1, (count, 9, 4))}
    return {name: value.astype("float32") for name, value in x.items()}, rng.normal(size=(count, 3)).astype("float32")


def one_step(model: keras.Model, x, y):
    """Outputs, the gradient of each trainable weight and the weights after a training step on a batch."""
    with tf.GradientTape() as tape:
        outputs = model(x, training=True)
        loss = tf.reduce_mean(tf.square(outputs - y))
    return outputs, tape.gradient(loss, [w.value for w in model.trainable_weights]), model.get_weights()


def relative(one, other) -> float:
    return max(float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("count", [1, 12])
def test_outputs_statistics_and_gradients_are_those_of_keras(count):
    x, y = data(count)
    model = network()
    fused = tg.fuse_batch_norm(model)
    np.testing.assert_array_equal(fused(x, training=False), model(x, training=False))
    (outputs, gradients, weights), (expected, wanted, after) = (one_step(m, x, y) for m in (fused, model))
    assert relative([outputs.numpy()], [expected.numpy()]) < 1e-5
    assert relative([w for w in weights], [w for w in after]) < 1e-5
    largest = max(float(np.abs(g).max()) for g in wanted)  # a bias before a normalization has one of rounding only
    assert max(float(np.abs(a - b).max()) for a, b in zip(gradients, wanted, strict=True)) < 1e-5 * largest
    assert any(not np.array_equal(a, b) for a, b in zip(weights, network().get_weights(), strict=True))


def test_a_training_takes_the_same_way_and_the_passed_model_stays():
    x, y = data()
    model = network()
    before = model.get_weights()
    trained = []
    for one in (tg.fuse_batch_norm(model), rebuild(model, lambda path, layer: layer)):
        one.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "mse")
        one.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        trained.append(one.get_weights())
    assert relative(*trained) < 1e-4
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_saved_cloned_or_copied_is_plain_keras_of_equal_outputs(tmp_path):
    x, _ = data()
    fused = tg.fuse_batch_norm(network())
    fused.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    others = [loaded, copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))]
    for other in others:
        np.testing.assert_array_equal(other(x), fused(x))
    assert "call" not in vars(loaded.layers[2])


def test_a_copy_of_a_fused_model_updates_its_own_statistics():
    x, _ = data()
    fused = tg.fuse_batch_norm(network())
    again = tg.fuse_batch_norm(fused)
    before = fused.get_weights()
    again(x, training=True)
    for one, other in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(one, other) for one, other in zip(again.get_weights(), before, strict=True))


def test_a_frozen_layer_a_mask_and_other_dtypes_are_left_to_keras():
    x = np.random.default_rng(0).normal(size=(4, 7, 3)).astype("float32")
    frozen = tg.fuse_batch_norm(keras.Sequential([keras.Input((7, 3)), layers.BatchNormalization()]))
    frozen.layers[0].trainable = False
    np.testing.assert_array_equal(frozen(x, training=True), frozen(x, training=False))
    masked = keras.Sequential([keras.Input((7, 3)), layers.Masking(), layers.BatchNormalization()])
    x[:, 4:] = 0
    np.testing.assert_array_equal(tg.fuse_batch_norm(masked)(x, training=True), masked(x, training=True))
    half = keras.Sequential([keras.Input((7, 3)), layers.BatchNormalization(dtype="mixed_bfloat16")])
    with pytest.warns(UserWarning, match="train as before.*computes in bfloat16"):
        copy = tg.fuse_batch_norm(half)
    np.testing.assert_array_equal(copy(x, training=True), half(x, training=True))


class _Own(layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) + 1.0


@pytest.mark.parametrize(
    "norm, reason",
    [
        (layers.BatchNormalization(axis=1), "axis 1 is not the last"),
        (layers.BatchNormalization(epsilon=1e-6), "epsilon of 1e-06 is below"),
        (_Own(), "its class computes something of its own"),
        (layers.BatchNormalization(renorm=True), "renormalizes"),
        (layers.BatchNormalization(synchronized=True), "synchronizes"),
    ],
    ids=["axis", "epsilon", "class", "renorm", "synchronized"],
)
def test_what_cannot_be_fused_trains_as_before_and_is_named_with_the_reason(norm, reason):
    model = keras.Sequential([keras.Input((5, 4, 3)), norm, layers.BatchNormalization(name="other")])
    with pytest.warns(UserWarning, match=f"1 of 2 .*{reason}"):
        fused = tg.fuse_batch_norm(model)
    assert ["call" in vars(layer) for layer in fused.layers] == [False, True]


def test_other_inputs_are_refused():
    with pytest.raises(TypeError, match="keras.Model"):
        tg.fuse_batch_norm(layers.BatchNormalization())


@pytest.mark.filterwarnings("ignore:A compressed model is being trained")
@pytest.mark.parametrize("verb", ["prune", "cluster", "quantize", "prune_channels"])
def test_the_models_of_the_verbs_train_with_fused_normalizations(verb):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(16, 3), layers.BatchNormalization(), layers.ReLU(), layers.Conv2D(4, 3)]
    )
    options = {"quantize": {"calibration_data": np.ones((4, 8, 8, 3), "float32")}, "prune_channels": {"ratio": 0.5}}
    result = getattr(tg, verb)(model, **options.get(verb, {}))
    graph = tf.function(lambda x: result(x, training=True)).get_concrete_function(tf.ones((2, 8, 8, 3))).graph
    assert "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}
