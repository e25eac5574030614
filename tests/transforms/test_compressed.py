"""Compressed: what a layer must keep while its weights pass through a chain."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfgreen as tg
from tests import zoo
from tfgreen.model.paths import weights_by_path
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import Compressed, compressed_layers
from tfgreen.transforms.mask import Mask

HALF = tg.ConstantSparsity(0.5, begin_step=0)


@keras.saving.register_keras_serializable(package="tests")
class Double(TensorTransform):
    def apply(self, weight):
        return weight * 2.0


def doubled(model: keras.Model, *weights: str) -> keras.Model:
    def choose(path, layer, chains):
        return Choice({weight: [Double()] for weight in weights if weight in weights_by_path(layer)})

    return compress(model, choose)


def test_the_layer_computes_with_the_transformed_weight_and_stores_the_other():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="out")])
    twice = doubled(model, "kernel")
    x = np.ones((1, 3), "float32")
    np.testing.assert_allclose(twice(x), 2 * model(x), rtol=1e-6)
    np.testing.assert_array_equal(twice.get_layer("out").layer.kernel, model.get_layer("out").kernel)
    np.testing.assert_allclose(tg.strip(twice).get_layer("out").kernel, 2 * model.get_layer("out").kernel.numpy())


class AddOne(TensorTransform):
    def apply(self, weight):
        return weight + 1.0


def test_the_order_of_a_chain_is_the_order_of_its_list():
    kernel = ops.convert_to_tensor([[3.0]])
    for transforms, expected in (([Double(), AddOne()], 7.0), ([AddOne(), Double()], 8.0)):
        chain = Chain("kernel", transforms)
        chain.build((1, 1))
        np.testing.assert_array_equal(chain.apply(kernel), [[expected]])


@keras.saving.register_keras_serializable(package="tests")
class BuiltInItsCall(layers.Layer):
    """Without a build() of its own, and with weights from its constructor."""

    def __init__(self, inner: keras.Layer | None = None, **kwargs):
        super().__init__(**kwargs)
        self.inner, self.dense = inner, layers.Dense(4)
        self.scale = self.add_weight(shape=(1, 4), initializer="ones", name="scale")

    def call(self, x, other):
        x = self.dense(x if self.inner is None else self.inner(x, other)) * self.scale
        return x + other

    def get_config(self):
        inner = None if self.inner is None else keras.saving.serialize_keras_object(self.inner)
        return {**super().get_config(), "inner": inner}

    @classmethod
    def from_config(cls, config):
        inner = config.pop("inner")
        return cls(None if inner is None else keras.saving.deserialize_keras_object(inner), **config)


@pytest.mark.filterwarnings("ignore:`build:UserWarning")  # Keras's, over the nested one, that it marks as built
@pytest.mark.parametrize("nested", [False, True])
def test_a_block_without_a_build_of_its_own_is_loaded_with_its_weights(nested, tmp_path):
    inputs = keras.Input((4,))
    block = BuiltInItsCall(BuiltInItsCall() if nested else None, name="block")
    pruned = tg.prune(keras.Model(inputs, block(inputs, inputs)))
    pruned.save(tmp_path / "m.keras")
    loaded, x = tg.load_model(tmp_path / "m.keras"), np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), pruned.predict(x, verbose=0))
    assert [chain.weight for chain in loaded.get_layer("block").chains] == [
        chain.weight for chain in pruned.get_layer("block").chains
    ]


@keras.saving.register_keras_serializable(package="tests")
class BuildsAPart(layers.Layer):
    """Its build() makes a weight, its first call the rest; or makes layers, too."""

    def __init__(self, late=False, **kwargs):
        super().__init__(**kwargs)
        self.late, self.dense = late, None if late else layers.Dense(4, "relu")

    def build(self, shape):
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        if self.late:
            self.parts = {"all": [layers.Dense(4, name="part"), layers.Dense(4, name="part")]}

    def call(self, x):
        for layer in self.parts["all"] if self.late else [self.dense]:
            x = layer(x * self.gamma)
        return x

    def get_config(self):
        return {**super().get_config(), "late": self.late}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("verb", ["prune", "cluster", "quantize"])
def test_a_block_that_builds_a_part_of_its_weights_is_loaded_with_all(verb, late, tmp_path):
    inputs, x = keras.Input((4,)), np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model = keras.Model(inputs, layers.Dense(2)(BuildsAPart(late, name="block")(inputs)))
    options = {"cluster": {"number_of_clusters": 4}, "quantize": {"calibration_data": x}}
    compressed = getattr(tg, verb)(model, **options.get(verb, {}))
    compressed.save(tmp_path / "m.keras")
    loaded = tg.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), compressed.predict(x, verbose=0))
    assert [w.shape for w in loaded.weights] == [w.shape for w in compressed.weights]


@keras.saving.register_keras_serializable(package="tests")
class SaysTooMuch(layers.Dense):
    """Its config holds what its constructor refuses, as that of a layer of KerasHub's does."""

    def __init__(self, units, gain=1.0, **kwargs):
        super().__init__(units, **kwargs)
        self.gain = gain

    def get_config(self):
        return {**super().get_config(), "gain": self.gain, "doubled": 2 * self.gain}


@keras.saving.register_keras_serializable(package="tests")
class TakesMore(layers.Dense):
    """It takes a name out of the further ones."""

    def __init__(self, units, **kwargs):
        self.gain = kwargs.pop("gain", 1.0)
        super().__init__(units, **kwargs)

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


@pytest.mark.parametrize("cls", [SaysTooMuch, TakesMore])
def test_a_layer_is_loaded_whatever_its_config_says_beyond_what_its_constructor_takes(cls, tmp_path):
    pruned = tg.prune(keras.Sequential([keras.Input((4,)), cls(3, gain=2.0, name="out")]))
    pruned.save(tmp_path / "m.keras")
    loaded, x = tg.load_model(tmp_path / "m.keras"), np.ones((2, 4), "float32")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), pruned.predict(x, verbose=0))
    assert type(loaded.get_layer("out").layer) is cls and loaded.get_layer("out").layer.gain == 2.0


def test_batch_norm_statistics_inside_a_wrapped_block_are_updated_once_per_step():
    @keras.saving.register_keras_serializable(package="tests")
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense, self.norm = layers.Dense(4, use_bias=False), layers.BatchNormalization(momentum=0.5)

        def build(self, shape):
            self.dense.build(shape)
            self.norm.build((None, 4))

        def call(self, x, training=None):
            return self.norm(self.dense(x), training=training)

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Block(name="block")(inputs))
    pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.0, 0)))
    x, y = np.random.default_rng(0).normal(size=(8, 3)).astype("float32") + 2, np.zeros((8, 4), "float32")
    for network, callbacks in ((model, []), (pruned, [tg.UpdateCompression()])):
        network.compile(keras.optimizers.SGD(0.0), "mse")
        network.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
    moved, expected = weights_by_path(tg.strip(pruned)), weights_by_path(model)
    assert np.abs(expected["block/norm/moving_mean"].numpy()).max() > 0.1
    for name in expected:
        np.testing.assert_allclose(moved[name], expected[name], atol=1e-6)


def test_training_flag_reaches_dropout_inside():
    inputs = keras.Input((20, 3))
    model = keras.Model(inputs, layers.LSTM(4, dropout=0.9, name="lstm")(inputs))
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    pruned.get_layer("lstm").watched = True
    x = np.ones((2, 20, 3), "float32")
    assert not np.allclose(pruned(x, training=True), pruned(x, training=False))
    np.testing.assert_allclose(pruned(x, training=False), model(x), atol=1e-6)


def test_masks_pass_through_a_wrapped_layer():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 4, mask_zero=True, name="embedding")(tokens)
    x = layers.Dense(4, name="dense")(x)
    model = keras.Model(tokens, layers.LSTM(3)(x))
    ids = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]])
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    np.testing.assert_allclose(pruned(ids), model(ids), atol=1e-6)
    # had the mask been lost, the padding would have moved the recurrent state
    no_mask = keras.Model(tokens, model.layers[-1](layers.Activation("linear")(ops.stop_gradient(x) * 1.0)))
    assert np.abs(ops.convert_to_numpy(no_mask(ids) - model(ids))[0]).max() > 1e-4


def test_a_layer_that_sets_its_own_weight_still_does():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.SpectralNormalization(layers.Dense(4, name="dense"), name="norm")(inputs))
    model.get_layer("norm").layer.kernel.assign(100 * model.get_layer("norm").layer.kernel)
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    data = np.ones((4, 6), "float32"), np.ones((4, 4), "float32")
    pruned.fit(*data, epochs=8, verbose=0, callbacks=[tg.UpdateCompression()])
    kernel = weights_by_path(tg.strip(pruned))["norm/layer/kernel"].numpy()
    assert (kernel == 0).mean() == 0.5
    assert np.linalg.norm(kernel, 2) == pytest.approx(1.0, abs=0.05)


def test_an_explicit_attention_mask_beside_tensors_and_flags():
    q = keras.Input((4, 8))
    mask = keras.Input((4, 4), dtype="bool")
    x, scores = layers.MultiHeadAttention(2, 4)(q, q, attention_mask=mask, return_attention_scores=True)
    model = keras.Model([q, mask], [x, scores])
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(2, 4, 8)).astype("float32"), np.tril(np.ones((2, 4, 4), bool))]
    for ours, theirs in zip(pruned(data), model(data)):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_losses_of_the_inner_layer_are_kept():
    inputs = keras.Input((4,))
    dense = layers.Dense(3, kernel_regularizer="l2", activity_regularizer="l1")
    model = keras.Model(inputs, dense(inputs))
    pruned = tg.prune(model, tg.PruneConfig(schedule=tg.ConstantSparsity(0.0, 0)))
    x = np.ones((2, 4), "float32")
    model(x), pruned(x)
    np.testing.assert_allclose(sorted(map(float, pruned.losses)), sorted(map(float, model.losses)), rtol=1e-6)
    assert len(model.losses) == 2


def test_a_constraint_of_the_users_still_holds_beside_the_mask():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(4, kernel_constraint="non_neg", name="out")(inputs))
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    pruned.compile(keras.optimizers.SGD(1.0), "mse")
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 6)).astype("float32"), rng.normal(size=(8, 4)).astype("float32")
    pruned.fit(*data, verbose=0, callbacks=[tg.UpdateCompression()])
    kernel = pruned.get_layer("out").layer.kernel.numpy()
    assert (kernel >= 0).all() and (kernel == 0).mean() >= 0.5
    plain = tg.strip(pruned).get_layer("out").kernel
    assert isinstance(plain.constraint, keras.constraints.NonNeg)


@pytest.mark.parametrize("name", ["residual", "attention", "subclassed"])
def test_jit_compiled_training_gives_the_same_weights(name):
    results = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        pruned = tg.prune(zoo.ZOO[name](), tg.PruneConfig(schedule=HALF))
        pruned.compile(keras.optimizers.SGD(0.01), zoo.loss(name), jit_compile=jit)
        # dropout draws other numbers under XLA, so compare what the mask leaves, not the values
        pruned.fit(zoo.sample(name), zoo.targets(name), verbose=0, callbacks=[tg.UpdateCompression()])
        results.append([status.sparsity for status in tg.summary(pruned).weights if status.done])
    assert results[0] == results[1] and all(0.4 < s < 0.6 for s in results[0])


def test_mixed_precision_keeps_float32_weights_and_computes_in_float16():
    inputs = keras.Input((8,))
    x = layers.Dense(16, activation="relu", dtype="mixed_float16", name="half")(inputs)
    model = keras.Model(inputs, layers.Dense(4, dtype="float32")(x))
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    assert pruned.get_layer("half").layer.compute_dtype == "float16"
    data = np.ones((4, 8), "float32"), np.ones((4, 4), "float32")
    pruned.compile("adam", "mse")
    pruned.fit(*data, verbose=0, callbacks=[tg.UpdateCompression()])
    half = pruned.get_layer("half")
    assert half(data[0]).dtype == "float16" and half.layer.kernel.dtype == "float32"
    np.testing.assert_array_equal(tg.strip(pruned)(data[0]), pruned(data[0]))


def test_the_inner_state_is_the_outer_scopes_under_stateless_call():
    """What the JAX trainer does: all variables come from a scope, none from the layer."""
    model = zoo.functional()
    pruned = tg.prune(model, tg.PruneConfig(schedule=HALF))
    x = zoo.sample("functional")
    trainable = [v.value * 0.5 for v in pruned.trainable_variables]
    outputs, _ = pruned.stateless_call(trainable, [v.value for v in pruned.non_trainable_variables], x)
    for variable, value in zip(pruned.trainable_variables, trainable):
        variable.assign(value)
    np.testing.assert_allclose(outputs, pruned(x), atol=1e-6)


def test_a_chain_for_a_weight_that_does_not_exist_names_the_layer_and_its_weights():
    layer = layers.Dense(2, name="out")
    layer.build((None, 3))
    with pytest.raises(ValueError, match=r"layer 'out' \(Dense\).*'bias', 'kernel'.*'karnel'"):
        Compressed(layer, [Chain("karnel", [Double()])])


def test_compressed_layers_are_found_inside_other_models():
    pruned = tg.prune(zoo.nested(), tg.PruneConfig(schedule=HALF))
    assert [path for path, _ in compressed_layers(pruned)][-1] == "head/logits"
    chain = pruned.get_layer("head").get_layer("logits").chains[0]
    assert isinstance(chain.transforms[0], Mask)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_layer_that_slices_its_weight_computes_in_half_precision(policy):
    """Keras casts a variable where it is read, also where only the shape is asked for."""

    class Positions(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:], initializer="glorot_uniform", name="table")

        def call(self, x):
            return x + self.table[: ops.shape(x)[1]]

    inputs = keras.Input((4, 8))
    model = keras.Model(inputs, Positions(dtype=policy)(layers.Dense(8, dtype=policy)(inputs)))
    pruned, x = tg.prune(model, schedule=tg.ConstantSparsity(0.0, begin_step=0)), np.ones((2, 4, 8))
    np.testing.assert_array_equal(pruned.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_layer_of_strings_is_asked_for_its_shape():
    """It computes in no dtype that variables could be cast to."""
    words = layers.TextVectorization(max_tokens=8, output_sequence_length=4, vocabulary=["a", "b"])
    inputs = keras.Input((), dtype="string")
    wrapped = Compressed(words, [])
    assert wrapped(inputs).shape == (None, 4)
    model = keras.Model(inputs, wrapped(inputs))
    assert model.predict(np.array(["b a"], object), verbose=0)[0].tolist() == [3, 2, 0, 0]
