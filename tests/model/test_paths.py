from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo
from tfgreen.model.paths import (
    check_built_model,
    holder_of,
    own_parameters,
    own_weights,
    paths_to,
    replaceable_layers,
    sublayers,
    walk,
    weights_by_path,
)


class Block(layers.Layer):
    """Sublayers in attributes, lists and dicts, under private names too; built by its first call."""

    def __init__(self):
        super().__init__(name="block")
        self.steps = [layers.Dense(3), layers.Dense(3)]
        self.by_name = {"a": layers.Dense(3)}
        self._hidden = layers.Dense(3)

    def call(self, x):
        for step in [*self.steps, self.by_name["a"], self._hidden]:
            x = step(x)
        return x


def test_sublayers_go_by_attribute_names_that_do_not_depend_on_the_process():
    layers.Dense(1)  # shifts Keras's automatic names
    block = Block()
    block(np.zeros((1, 3), "float32"))
    assert [path for path, _ in walk(block)] == ["steps/0", "steps/1", "by_name/a", "hidden"]
    assert set(weights_by_path(block)) == {
        f"{path}/{name}" for path in ("steps/0", "steps/1", "by_name/a", "hidden") for name in ("kernel", "bias")
    }


@pytest.mark.parametrize("name", zoo.ZOO)
def test_weights_by_path_holds_each_weight_of_the_model_once(name):
    model = zoo.ZOO[name]()
    found = [id(variable) for variable in weights_by_path(model).values()]
    assert len(found) == len(set(found))
    assert set(found) == {id(variable) for variable in model.weights}


def test_paths_of_nested_recurrent_and_attention_layers():
    assert [path for path, _ in replaceable_layers(zoo.nested())] == [
        "features/conv2d",
        "features/global_average_pooling2d",
        "head/logits",
    ]
    lstm = dict(replaceable_layers(zoo.lstm()))["lstm"]
    assert set(weights_by_path(lstm)) == {"cell/kernel", "cell/recurrent_kernel", "cell/bias"}
    attention = dict(replaceable_layers(zoo.attention()))["multi_head_attention"]
    assert "query_dense/kernel" in weights_by_path(attention)


def test_frozen_weights_are_still_parameters_and_statistics_never_are():
    norm = layers.BatchNormalization()
    norm.build((None, 3))
    norm.trainable = False
    assert set(own_weights(norm)) == {"gamma", "beta", "moving_mean", "moving_variance"}
    assert set(own_parameters(norm)) == {"gamma", "beta"}


def test_a_subclassed_model_that_was_never_called_is_not_built():
    with pytest.raises(ValueError, match="'two_layer_net'.*built model.*call it once"):
        check_built_model(zoo.TwoLayerNet())
    with pytest.raises(TypeError, match="teacher.*received Dense"):
        check_built_model(layers.Dense(2), "teacher")


def test_a_shared_layer_is_met_once_by_its_first_path():
    dense = layers.Dense(4, name="tied")
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, dense(inner_in), name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, dense(inner(inputs)))
    paths = {id(layer): path for path, layer in walk(model)}
    assert [path for path, layer in walk(model) if layer is dense] == [paths[id(dense)]] == ["inner/tied"]
    assert [path for path, _ in replaceable_layers(model)] == ["inner/tied"]


def test_a_subclassed_model_is_replaced_whole_and_goes_by_its_attributes():
    model = zoo.subclassed()
    assert list(replaceable_layers(model)) == [("", model)]
    assert [name for name, _ in sublayers(model)] == ["blocks/0", "blocks/1", "dropout", "head"]


def test_weights_of_one_name_are_numbered_and_those_of_a_wrapped_layer_stay_its_own():
    class Twins(layers.Layer):
        def build(self, shape):
            for _ in range(2):
                self.add_weight(shape=(2,), name="w")

    twins = Twins()
    twins.build((None, 2))
    assert list(own_weights(twins)) == ["w", "w_1"]
    wrapper = layers.SpectralNormalization(layers.Dense(3))
    wrapper.build((None, 2))
    assert "kernel" not in own_weights(wrapper) and "layer/kernel" in weights_by_path(wrapper)


@pytest.mark.parametrize("attributes", [("block", "_block"), ("_block", "block"), ("__block", "_block")])
def test_attributes_that_differ_in_underscores_hide_no_layer(attributes):
    layer = layers.Layer()
    for attribute in attributes:
        setattr(layer, attribute, layers.Dense(2))
    assert [(path, id(sub)) for path, sub in walk(layer)] == [
        ("block", id(getattr(layer, attributes[0]))), ("_block", id(getattr(layer, attributes[1])))]


def test_a_distiller_is_no_model_to_compress():
    import tfgreen as tg

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    distiller = tg.Distiller(model, keras.models.clone_model(model), tg.LogitsDistillation())
    for verb in (tg.convert, tg.profile, tg.prune, tg.cluster, tg.quantize, tg.summary, tg.strip, tg.equalize):
        with pytest.raises(TypeError, match="received Distiller. Pass distiller.student"):
            verb(distiller)


def test_an_attribute_that_another_thread_adds_does_not_disturb_the_walk():
    block = Block()
    block(np.ones((1, 3)))

    class Meddling(dict):
        def items(self):
            vars(block)[f"more_{len(vars(block))}"] = 1
            return super().items()

    before = dict(walk(block))
    vars(block)["meddling"] = Meddling(a=1)
    assert dict(walk(block)) == before


@pytest.mark.parametrize("policy", ["bfloat16", "float64"])
def test_weights_that_are_no_float32_are_named_where_they_fail(policy):
    chain = [layers.Conv2D(2, 3, name="conv", dtype=policy), layers.BatchNormalization(dtype=policy)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *chain])
    x, message = np.ones((4, 8, 8, 1), "float32"), f"layers \\['conv'.* hold their weights in {policy}.*set_weights"
    for fails in (
        lambda: tg.convert(model),
        lambda: tg.convert(model, quantization="int8", calibration_data=x),
        lambda: tg.quantize(model, calibration_data=x),
    ):
        with pytest.raises(tg.TfgreenError, match=message):
            fails()
    new = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.BatchNormalization()])
    new.set_weights(model.get_weights())
    assert tg.convert(new).predict(x).shape == (4, 6, 6, 2)


def test_a_model_that_keras_has_quantized_is_named():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="done")])
    model.get_layer("done").quantize("int8")
    with pytest.raises(tg.TfgreenError, match=r"layers \['done'\] are quantized by Keras.*as it was before"):
        tg.convert(model)


def test_a_weight_has_a_layer_that_holds_it_and_a_layer_has_layers_around_it():
    assert holder_of("block", "dense/kernel") == "block/dense"
    assert holder_of("dense", "kernel") == "dense"
    assert holder_of("", "dense/kernel") == "dense"  # a model that is no graph
    assert paths_to("block/attention/query") == ["block", "block/attention", "block/attention/query"]
    assert paths_to("dense") == ["dense"]


@keras.saving.register_keras_serializable("tests")
class FeedForward(keras.Layer):
    """A block as Keras's examples write it: a model that its code makes, of layers without names and one with."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        parts = [layers.Dense(2 * units, "relu"), layers.Dense(units, name="dense_with_name"), layers.Dense(units)]
        self.ffn = keras.Sequential(parts)

    def call(self, x):
        return self.ffn(x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def test_layers_that_code_makes_have_the_same_paths_each_time():
    found = []
    for _ in range(2):
        block = FeedForward(4)
        block(np.ones((1, 4)))
        found.append(list(weights_by_path(block)))
    kernels = [path for path in found[0] if path.endswith("kernel")]
    assert found[0] == found[1] and kernels == ["ffn/dense/kernel", "ffn/dense_with_name/kernel", "ffn/dense_1/kernel"]


@pytest.mark.parametrize("verb", [
    tg.prune, tg.cluster, lambda model: tg.quantize(model, calibration_data=np.ones((8, 4), "float32")),
])  # fmt: skip
@pytest.mark.parametrize("is_graph", [True, False])
def test_what_is_compressed_in_code_is_saved_and_loaded(verb, is_graph, tmp_path):
    class Plain(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.block, self.head = FeedForward(4), layers.Dense(2)

        def call(self, x):
            return self.head(self.block(x))

    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), FeedForward(4), layers.Dense(2)]) if is_graph else Plain()
    model(x)
    compressed = verb(model)
    compressed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={"Plain": Plain})
    np.testing.assert_array_equal(loaded(x), compressed(x))
