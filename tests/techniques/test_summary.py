from __future__ import annotations

import json

import keras
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo

NOW = tg.ConstantSparsity(0.5, begin_step=0)


@keras.saving.register_keras_serializable(package="tests")
class TwoMatrices(layers.Layer):
    """Only one of its matrices is to be pruned."""

    def build(self, input_shape):
        self.first = self.add_weight(shape=(input_shape[-1], 4), name="first")
        self.second = self.add_weight(shape=(4, 4), name="second")

    def call(self, x):
        return keras.ops.matmul(keras.ops.matmul(x, self.first), self.second)

    def get_prunable_weights(self):
        return [self.second]


def reasons(model: keras.Model) -> dict[str, str]:
    return {f"{s.layer}/{s.weight}": s.reason for s in tg.summary(model).weights}


def keep_the_head(model):
    return {"probabilities": "the head is tiny"}


def narrow() -> keras.Model:
    return keras.Sequential([keras.Input((2,)), layers.Dense(8, name="narrow"), layers.Dense(4, name="wide")])


CASES = {
    "settings": (zoo.functional, {"layers": {"prob*": None}}, {"probabilities/kernel": "the settings leave it out"}),
    "policy": (zoo.functional, {"policy": keep_the_head}, {"probabilities/kernel": "the head is tiny"}),
    "nested": (zoo.nested, {"layers": {"head/*": None}}, {"head/logits/kernel": "the settings leave it out"}),
    "m:n": (narrow, {"m_by_n": (2, 4)}, {"narrow/kernel": "2 input channels are too few for zeros with m_by_n=(2, 4)"}),
}


@pytest.mark.parametrize("build, settings, expected", CASES.values(), ids=CASES)
def test_the_reason_why_a_layer_was_left_out_is_saved_with_the_model_and_copied(build, settings, expected, tmp_path):
    pruned = tg.prune(build(), tg.PruneConfig(schedule=NOW, **settings))
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    further = compressed_further(loaded)
    for model in (pruned, loaded, further):
        assert {path: reason for path, reason in reasons(model).items() if reason} == expected
    assert set(reasons(tg.strip(loaded)).values()) == {"it was not compressed"}


def test_each_part_of_a_model_knows_why_its_layers_were_left_out():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(4, name="a"), layers.Dense(4, name="b"), layers.Dense(2, name="c")]
    )
    pruned = tg.prune(model, tg.PruneConfig(schedule=NOW, layers={"c": None}))
    part = keras.Sequential([keras.Input((4,)), *pruned.layers[1:]])
    assert reasons(part) == {"b/kernel": "", "c/kernel": "the settings leave it out"}


def compressed_further(model: keras.Model) -> keras.Model:
    """Another transform behind each mask, as another verb would add."""
    from tfgreen.transforms.compress import Choice, compress
    from tfgreen.transforms.fake_quant import FakeQuant

    return compress(model, lambda path, layer, chains: Choice({weight: [FakeQuant(bits=4)] for weight in chains}))


def test_matrices_that_stay_dense_beside_a_pruned_one_are_listed():
    x = inputs = keras.Input((6, 6, 4))
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    x = TwoMatrices(name="two")(x)
    pruned = tg.prune(keras.Model(inputs, x), tg.PruneConfig(schedule=NOW))
    assert reasons(pruned) == {
        "separable/pointwise_kernel": "",
        "separable/depthwise_kernel": "only pointwise_kernel of its layer is compressed unless asked for",
        "two/second": "",
        "two/first": "get_prunable_weights() of its layer leaves it out",
    }


def test_what_stays_dense_inside_a_subclassed_model_is_listed():
    class Net(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.conv, self.depthwise = layers.Conv2D(4, 3), layers.DepthwiseConv2D(3)

        def call(self, x):
            return self.depthwise(self.conv(x))

    model = Net(name="net")
    model(keras.ops.zeros((1, 8, 8, 3)))
    found = reasons(tg.prune(model, tg.PruneConfig(schedule=NOW)))
    assert found["net/conv/kernel"] == "" and "depthwise kernels" in found["net/depthwise/kernel"]


def test_layers_of_a_quantized_model_that_compute_in_float_say_why_also_without_weights(tmp_path):
    x = inputs = keras.Input((6, 4))
    x = layers.LSTM(3, return_sequences=True, name="recurrent")(x)
    x = layers.ELU(name="elu")(layers.LayerNormalization(name="norm")(-x))
    model = keras.Model(inputs, layers.Dense(2, name="head")(layers.Flatten(name="flat")(x)))
    data = keras.random.normal((8, 6, 4), seed=0)
    result = tg.quantize(model, tg.QuantizeConfig(calibration_data=data, layers={"head": None}))
    pruned_too = tg.prune(result, tg.PruneConfig(schedule=NOW))
    result.save(tmp_path / "m.keras")
    for one, done in ((result, ()), (keras.models.load_model(tmp_path / "m.keras"), ()), (pruned_too, ("Mask",))):
        found = {status.layer: status for status in tg.summary(one).weights}
        assert set(found) == {"recurrent", "negative", "norm", "elu", "head"}
        assert found["recurrent"].done == (*done, "FakeQuant")
        assert "its steps run in float32" in found["recurrent"].reason
        assert (found["negative"].class_name, found["negative"].size) == ("Negative", 0)
        assert "no int8 kernel" in found["negative"].reason and "float32" in found["elu"].reason
        assert "mean, variance" in found["norm"].reason
        assert found["head"].done == done and found["head"].reason == "the settings keep it in float"
        assert "unchanged: the settings keep it in float" in str(tg.summary(result))


def test_it_shows_as_a_line_a_table_a_page_and_plain_values():
    summary = tg.summary(tg.prune(zoo.separable(), tg.PruneConfig(schedule=NOW)))
    done = sum(bool(status.done) for status in summary.weights)
    assert 0 < done < len(summary.weights)
    assert repr(summary) == f"<ModelSummary: 'separable_net': {done} of {len(summary.weights)} weights compressed>"
    lines = str(summary).splitlines()
    assert len(lines) == len(summary.weights) + 3 and lines[0].startswith("layer")
    assert "no update of their schedule" in lines[-1]
    assert lines[-2] == f"model 'separable_net': {done} of {len(summary.weights)} weights compressed"
    assert "Mask" in lines[1] and lines[1].endswith("0.0%")  # before the first step
    html = summary._repr_html_()
    assert html.count("<tr>") == len(summary.weights) + 1 and "unchanged: it normalizes" in html
    plain = json.loads(json.dumps(summary.to_dict()))
    assert [weight["sparsity"] for weight in plain["weights"]] == [status.sparsity for status in summary.weights]


def test_a_layer_without_a_weight_left_is_named_dead():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="out")])
    pruned = tg.prune(model, criterion="threshold", threshold=1e6, schedule=tg.ConstantSparsity(0.5, begin_step=0))
    tg.UpdateCompression(pruned)
    assert "dead" in tg.summary(pruned).weights[0].reason
