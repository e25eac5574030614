"""prune_low_magnitude on models, layers and lists, as TFMOT's code calls it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfgreen as tg
from tfgreen import compat as tfmot
from tfgreen.compat.prune import PruneLowMagnitude
from tfgreen.transforms.compressed import Compressed, compressed_layers

pytestmark = pytest.mark.filterwarnings("ignore::tfgreen.compat.told.TfmotWarning")
sparsity = tfmot.sparsity.keras
X = np.random.default_rng(0).normal(size=(32, 10)).astype("float32")
Y = X[:, :4]


def zeros(layer: keras.Layer) -> float:
    return float((keras.ops.convert_to_numpy(layer.kernel) == 0).mean())


def net() -> keras.Model:
    return keras.Sequential([keras.Input((10,)), layers.Dense(16, "relu", name="hidden"), layers.Dense(4, name="out")])


def fitted(model: keras.Model, epochs: int = 2, **kwargs: object) -> keras.Model:
    model.compile("adam", "mse")
    model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, **kwargs)
    return model


def test_a_model_is_pruned_stripped_and_left_as_it_was():
    model = net()
    before = model.get_weights()
    schedule = sparsity.PolynomialDecay(0.0, 0.75, begin_step=0, end_step=4, frequency=1)
    pruned = fitted(sparsity.prune_low_magnitude(model, schedule), callbacks=[sparsity.UpdatePruningStep()])
    stripped = sparsity.strip_pruning(pruned)
    assert [zeros(layer) for layer in stripped.layers] == [0.75, 0.75]
    assert [type(layer) for layer in stripped.layers] == [layers.Dense, layers.Dense]
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    np.testing.assert_allclose(stripped.predict(X, verbose=0), pruned.predict(X, verbose=0), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`")  # as code for Keras 2 does
def test_layers_are_pruned_as_soon_as_they_have_weights(tmp_path):
    model = keras.Sequential([
        sparsity.prune_low_magnitude(layers.Dense(16, "relu", input_shape=(10,))),
        *sparsity.prune_low_magnitude([layers.Dropout(0.1), layers.Dense(8)]),
        layers.Dense(4),
    ])
    assert [len(getattr(layer, "chains", ())) for layer in model.layers] == [1, 0, 1, 0]
    fitted(model, callbacks=[sparsity.UpdatePruningStep()])
    model.save(tmp_path / "model.keras")
    with sparsity.prune_scope():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    stripped = sparsity.strip_pruning(loaded)
    assert [zeros(stripped.layers[index]) for index in (0, 2, 3)] == [0.5, 0.5, 0.0]
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))


def test_a_sequential_model_without_weights_is_pruned_when_it_is_built():
    model = keras.Sequential([layers.Dense(8), keras.Sequential([layers.Dense(4)])])
    pruned = sparsity.prune_low_magnitude(model)
    assert not model.built and not pruned.built
    assert pruned.layers[0].layer is model.layers[0]
    again = keras.Sequential.from_config(pruned.get_config())
    for each in (pruned, again):
        each.build((None, 10))
        assert [layer.chains[0].weight for _, layer in compressed_layers(each)] == ["kernel", "kernel"]
    assert len(sparsity.strip_pruning(sparsity.prune_low_magnitude(keras.Sequential([layers.Dense(3)]))).layers) == 1


def test_training_that_begins_without_weights_says_what_to_do():
    model = keras.Sequential([sparsity.prune_low_magnitude(layers.Dense(4))])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"gets its weights only when training begins.*keras.Input"):
        model.fit(X, Y, verbose=0)


def test_some_layers_of_a_cloned_model_as_in_the_guide():
    model = net()

    def prune_hidden(layer: keras.Layer) -> keras.Layer:
        return sparsity.prune_low_magnitude(layer) if layer.name == "hidden" else layer

    clone = keras.models.clone_model(model, clone_function=prune_hidden)
    np.testing.assert_array_equal(clone.predict(X, verbose=0), model.predict(X, verbose=0))
    fitted(clone, callbacks=[sparsity.UpdatePruningStep()])
    assert [zeros(layer) for layer in sparsity.strip_pruning(clone).layers] == [0.5, 0.0]
    assert zeros(model.layers[0]) == 0


def test_what_is_pruned_already_stays_as_it_is():
    model = keras.Sequential([
        keras.Input((10,)), layers.Dense(8), sparsity.prune_low_magnitude(layers.Dense(4), block_size=(2, 2)),
    ])
    twice = sparsity.prune_low_magnitude(sparsity.prune_low_magnitude(model))
    masks = [layer.chains[0].transforms for _, layer in compressed_layers(twice)]
    assert [(len(items), items[0].block_size) for items in masks] == [(1, (1, 1)), (1, (2, 2))]
    assert len(sparsity.prune_low_magnitude([model.layers[1]])[0].chains) == 1


@pytest.mark.parametrize("says_batches", [True, False])
def test_a_loop_of_the_users_own_counts_its_steps(says_batches):
    model = sparsity.prune_low_magnitude(net(), sparsity.ConstantSparsity(0.5, begin_step=2, frequency=1))
    model.optimizer = keras.optimizers.SGD()
    callback = sparsity.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    found = []
    for _ in range(2):
        for _ in range(2):
            if says_batches:
                callback.on_train_batch_begin(batch=-1)
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
            variables = model.trainable_variables
            model.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        callback.on_epoch_end(batch=-1)
        found.append((int(model.layers[0].chains[0].transforms[0].step), zeros(model.layers[0].layer)))
    assert found == [(2, 0.5), (4, 0.5)]


def test_two_of_four_needs_no_schedule_that_fits():
    model = sparsity.prune_low_magnitude(net(), sparsity.ConstantSparsity(0.1, 0), sparsity_m_by_n=(3, 4))
    fitted(model, epochs=1, callbacks=[sparsity.UpdatePruningStep()])
    kernel = keras.ops.convert_to_numpy(sparsity.strip_pruning(model).layers[0].kernel)
    assert ((kernel[:8].reshape(2, 4, 16) != 0).sum(axis=1) == 1).all()


def test_summaries_are_written(tmp_path):
    model = sparsity.prune_low_magnitude(net())
    fitted(model, callbacks=[sparsity.UpdatePruningStep(), sparsity.PruningSummaries(log_dir=str(tmp_path / "logs"))])
    assert list((tmp_path / "logs").iterdir())
    with pytest.raises(ValueError, match="folder"):
        sparsity.PruningSummaries(log_dir="")
    with pytest.raises(TypeError, match="update_freg.*argument of PruningSummaries"):
        sparsity.PruningSummaries(tmp_path, update_freg="epoch")
    assert sparsity.PruningSummaries(tmp_path, histogram_freq=1) is not None


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = layers.Dense(16, "relu"), layers.Dense(4)

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_layers_of_a_subclassed_model_in_their_attributes():
    model = Subclassed()
    model.first = sparsity.prune_low_magnitude(model.first)
    model(X[:1])
    fitted(model, callbacks=[sparsity.UpdatePruningStep()])
    stripped = sparsity.strip_pruning(model)
    assert type(stripped.first) is layers.Dense and (zeros(stripped.first), zeros(stripped.second)) == (0.5, 0.0)
    np.testing.assert_allclose(stripped.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-5)
    assert isinstance(model.first, PruneLowMagnitude)


class Block(layers.Layer):  # builds its parts in its first call
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.dense = layers.Dense(4)

    def call(self, inputs):
        return self.dense(inputs)


def test_a_layer_that_builds_its_parts_when_it_is_called():
    model = keras.Sequential([keras.Input((10,)), sparsity.prune_low_magnitude(Block())])
    assert [chain.weight for chain in model.layers[0].chains] == ["dense/kernel"]


def test_a_layer_called_with_several_inputs_and_arguments():
    query = keras.Input((5, 8))
    attention = sparsity.prune_low_magnitude(layers.MultiHeadAttention(2, 4))
    model = keras.Model(query, attention(query, query, use_causal_mask=True))
    plain = keras.Model(query, layers.MultiHeadAttention(2, 4)(query, query, use_causal_mask=True))
    plain.set_weights(sparsity.strip_pruning(model).get_weights())
    x = np.random.default_rng(1).normal(size=(2, 5, 8)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-6)
    assert len(model.layers[1].chains) == 4


@pytest.mark.parametrize("value", [object(), Subclassed(), None, "model"], ids=["object", "subclassed", "None", "str"])
def test_nothing_else_can_be_pruned(value):
    with pytest.raises(ValueError, match="`prune_low_magnitude` can only prune an object of the following types"):
        sparsity.prune_low_magnitude(value)


def test_keras_2_says_how_to_bring_it_over():
    import tf_keras

    old = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(2)])
    for use in (sparsity.prune_low_magnitude, sparsity.strip_pruning, tg.prune, tg.summary):
        with pytest.raises(TypeError, match=r"Keras 2.*tg.load_model\('model.h5'\)"):
            use(old)
    with pytest.raises(TypeError, match="Keras 2"):
        sparsity.prune_low_magnitude([old.layers[0]])


def test_nothing_to_prune_is_said_and_returns_a_copy():
    model = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    with pytest.warns(UserWarning, match="no weight that can be pruned"):
        assert sparsity.prune_low_magnitude(model) is not model


def test_a_subclassed_model_that_is_built_is_pruned_as_a_whole():
    model = Subclassed()
    model(X[:1])
    pruned = fitted(sparsity.prune_low_magnitude(model), callbacks=[sparsity.UpdatePruningStep()])
    assert isinstance(pruned.compressed, Compressed)
    assert zeros(sparsity.strip_pruning(pruned).first) == 0.5


class OnlyDense(sparsity.PruningPolicy):
    """As in TFMOT's guide."""

    def allow_pruning(self, layer):
        return isinstance(layer, keras.layers.Dense)

    def ensure_model_supports_pruning(self, model):
        """All are."""


def test_a_policy_holds_for_a_model_without_weights_too():
    stack = [keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(4)]
    pruned = sparsity.prune_low_magnitude(keras.Sequential(stack), pruning_policy=OnlyDense())
    assert [type(layer).__name__ for layer in pruned.layers] == ["Conv2D", "Flatten", "PruneLowMagnitude"]


@pytest.mark.parametrize("policy", ["xnnpack", OnlyDense, lambda layer: True], ids=["name", "class", "function"])
def test_what_is_no_policy_is_refused(policy):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    with pytest.raises(TypeError, match="pruning_policy: expected an instance of a PruningPolicy"):
        sparsity.prune_low_magnitude(model, pruning_policy=policy)


@pytest.mark.parametrize("m_by_n", [(5, 4), (4, 4), (0, 4)])
def test_a_pattern_that_leaves_nothing_or_takes_nothing_is_named(m_by_n):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match=r"sparsity_m_by_n: expected \(m, n\)"):
        sparsity.prune_low_magnitude(model, sparsity_m_by_n=m_by_n)
