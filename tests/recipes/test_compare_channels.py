from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests import zoo


def rows(before: keras.Model, after: keras.Model) -> dict[str, tg.LayerWidth]:
    return {row.layer: row for row in tg.compare_channels(before, after).layers}


def test_widths_reasons_and_figures_before_and_after():
    model = zoo.nested()
    slim = tg.prune_channels(model, ratio=0.5, round_to=2)
    found = tg.compare_channels(model, slim, latency=True)
    by_name = {row.layer.split("/")[0]: row for row in found.layers}
    features, head = by_name["features"], by_name["head"]
    assert (features.before, features.after, features.reason) == (6, 4, "")
    assert (head.before, head.after, head.reason) == (4, 4, "they are an output of the model")
    assert found.parameters == (tg.profile(model).parameters, tg.profile(slim).parameters)
    assert found.macs == (tg.profile(model).macs, tg.profile(slim).macs)
    assert found.size_bytes == (tg.convert(model).size_bytes, tg.convert(slim).size_bytes)
    assert found.latency_ms[0] and found.latency_ms[1]
    assert "1 of 2 layers narrower, MACs: 2,616 -> 1,744 (67%)" in repr(found)
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["before"] == 6


def test_figures_and_reasons_are_shown_in_columns():
    model = zoo.nested()
    found = tg.compare_channels(model, tg.prune_channels(model, ratio=0.5, round_to=2))
    lines = str(found).splitlines()
    assert lines[0].split() == ["figure", "before", "after", "left"] and lines[1].split()[0] == "MACs"
    assert next(line for line in lines if line.startswith("head")).endswith("4      4  they are an output of the model")
    html = found._repr_html_()
    assert html.count("<table ") == 2 and "1 of 2 layers narrower" in html and html.count("background") == 5


@pytest.mark.slow
def test_what_was_not_narrowed_is_said():
    normed = layers.SpectralNormalization(layers.Dense(4), name="normed")
    model = keras.Sequential([keras.Input((6,)), normed, layers.Dense(2)])
    assert "cannot be traced" in rows(model, model)["normed/layer"].reason
    parts = [layers.Dense(16, name="first"), layers.Dense(16, name="last"), layers.Dense(2, name="out")]
    model = keras.Sequential([keras.Input((6,)), *parts])
    found = rows(model, tg.prune_channels(model, keep=["first"]))
    assert "they could go: kept" in found["first"].reason and found["last"].reason == ""
    inputs = keras.Input((5, 8))
    attended = layers.MultiHeadAttention(4, 4, name="heads")(inputs, inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Add()([inputs, attended])))
    found = rows(model, tg.prune_channels(model, round_to=1))
    assert "traced" not in found["heads/output_dense"].reason and found["heads/output_dense"].reason
    assert found["heads/query_dense"].after == 2


def test_a_classifier_whose_activation_mixes_is_an_output_first():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(16), layers.Dense(4, "softmax", name="head")])
    assert rows(model, tg.prune_channels(model))["head"].reason == "they are an output of the model"


def test_a_model_beside_itself():
    found = tg.compare_channels(model := zoo.nested(), model, latency=True)
    assert found.size_bytes[0] == found.size_bytes[1] and None not in found.latency_ms


@pytest.mark.slow
def test_latency_of_inputs_of_open_size_is_that_of_the_data():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    slim = tg.prune_channels(model)
    with pytest.raises(ValueError, match="size of input .*, which is open. Pass calibration_data"):
        tg.compare_channels(model, slim, latency=True)
    with pytest.raises(ValueError, match="size of input .*, which is open. Pass calibration_data"):
        tg.prune_channels(model, target_latency_ms=0.001)
    small, large = (np.zeros((2, size, size, 3), "float32") for size in (4, 64))
    found = [tg.compare_channels(model, slim, latency=True, calibration_data=x).latency_ms[0] for x in (small, large)]
    assert found[1] > 3 * found[0]


def test_other_models_are_errors():
    with pytest.raises(ValueError, match="after: expected a model with the layer"):
        tg.compare_channels(zoo.nested(), zoo.functional())
    with pytest.raises(TypeError, match="'quantisation' is no option.*'quantization'"):
        tg.compare_channels(zoo.nested(), zoo.nested(), quantisation="int8")
    model = zoo.nested()
    with pytest.raises(ValueError, match=r"after: expected no layer wider than it was in before \('features/.*': 4\)"):
        tg.compare_channels(tg.prune_channels(model, round_to=2), model)
    with pytest.raises(ValueError, match=r"after: layer .*features/.* is compressed. Pass tg.strip\(after\)"):
        tg.compare_channels(model, tg.prune(model))
