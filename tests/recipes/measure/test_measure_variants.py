"""measure_variants: every figure is the file's own, with its source, and what cannot be had is None with the reason."""

from __future__ import annotations

import gzip

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.recipes.measure import measure_variants as measure
from tfgreen.recipes.measure.measure_variants import Export, measure_variants, report_metric
from tfgreen.reports.variant import FIGURES

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(90, 6)).astype("float32"), RNG.integers(0, 3, size=90)
TEST = tg.Split(X, Y, name="test")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(measure, "LATENCY_RUNS", 20)


@pytest.fixture(scope="module")
def exports():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3, "softmax")]
    model = keras.Sequential(layers)
    model.layers[0].kernel.assign(np.where(np.arange(96).reshape(6, 16) % 2, model.layers[0].kernel, 0.0))
    int8 = tg.ConvertConfig(quantization="int8", calibration_data=X)
    return {"float32": Export(model, tg.convert(model)), "int8": Export(model, tg.convert(model, int8))}


@pytest.mark.slow
def test_every_figure_is_read_off_the_file(exports, tmp_path):
    for variant in measure_variants(exports, TEST, tg.Metric("accuracy"), region="DEU"):
        lite = exports[variant.name].lite
        answers = np.asarray(lite.predict(X)).argmax(axis=-1)
        assert variant.metric == pytest.approx((answers == Y).mean())
        low, high = variant.intervals["metric"]
        least, most = variant.intervals["co2e_kg"]
        assert least <= variant.co2e_kg <= most and low < variant.metric < high and variant.memory_bytes != 0
        data = lite.save(tmp_path / "model.tflite").read_bytes()
        assert variant.size_bytes == len(data)
        assert variant.gzip_bytes == len(gzip.compress(data, 9, mtime=0))
        kernels = sum(array.size for array in exports[variant.name].model.get_weights() if array.ndim > 1)
        assert variant.sparsity == pytest.approx(48 / kernels, abs=0.02)
        assert 0 < variant.latency_ms.median <= variant.latency_ms.p90
        assert variant.energy.joules_per_inference > 0
        assert variant.co2e_kg == pytest.approx(variant.energy.joules_per_inference / 3.6e6 * 0.38, rel=0.2)
        told = {*variant.sources, *variant.reasons}  # so small a model may take no page of memory
        assert variant.verified and told == {*FIGURES, "verified"} and set(variant.reasons) <= {"memory_bytes"}
        assert "all 90 samples of test; interval of 95 % (W" in variant.sources["metric"]
        assert "20 runs" in variant.sources["latency_ms"]


def test_a_file_of_another_model_is_not_verified(exports):
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, "softmax")])
    (variant,) = measure_variants({"wrong": Export(other, exports["int8"].lite)}, TEST, tg.Metric("accuracy"))
    assert not variant.verified and "the outputs differ" in variant.reasons["verified"]
    assert variant.co2e_kg is None and "no region" in variant.reasons["co2e_kg"]


def test_energy_that_cannot_be_read_is_none_with_the_reason(exports, monkeypatch):
    from tfgreen.energy.inference import InferenceEnergy

    why = "the counters did not move"
    none = InferenceEnergy(None, None, None, (), 3, "unavailable", why, 0.1, "DEU", None, "no reading")
    monkeypatch.setattr(measure, "measure_in_turn", lambda calls, *_: dict.fromkeys(calls, none))
    variant = measure_variants({"int8": exports["int8"]}, TEST, tg.Metric("accuracy"))[0]
    assert variant.energy is None and variant.reasons["energy"] == "the counters did not move"
    assert variant.co2e_kg is None and variant.reasons["co2e_kg"] == "no reading"


def test_energy_and_a_metric_that_were_not_asked_for(exports):
    (variant,) = measure_variants({"int8": exports["int8"]}, tg.Split(X), None, joules=False)
    assert (variant.metric, variant.energy, variant.co2e_kg) == (None, None, None)
    assert variant.reasons["metric"] == "the samples have no targets" and "not asked" in variant.reasons["energy"]


def test_a_metric_that_is_no_number_is_none_with_the_reason(exports):
    split = tg.Split(X, -np.ones((90, 3)), name="validation")
    (variant,) = measure_variants({"int8": exports["int8"]}, split, tg.Metric(lambda y, p: p / 0, direction="lower"),
                                  joules=False)  # fmt: skip
    assert variant.metric is None and "on validation" in variant.reasons["metric"]


def regression():
    inputs = keras.Input((6,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs)), X, X[:, :1] * 2, tg.Metric("mae")


def segmentation():
    inputs = keras.Input((None, None, 2))
    x = RNG.normal(size=(30, 5, 5, 2)).astype("float32")
    metric = tg.Metric(keras.metrics.MeanIoU(2, sparse_y_pred=False))
    return keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)), x, (x[..., 0] > 0).astype(int), metric


def several():
    image, size = keras.Input((4, 4, 1), name="image"), keras.Input((2,), name="size")
    x = keras.layers.Concatenate()([keras.layers.Flatten()(image), size])
    model = keras.Model([image, size], {"label": keras.layers.Dense(3)(x), "price": keras.layers.Dense(1)(x)})
    parts = {"image": RNG.normal(size=(30, 4, 4, 1)).astype("float32"), "size": RNG.normal(size=(30, 2))}
    y = {"label": np.arange(30) % 3, "price": np.ones((30, 1))}
    return model, parts, y, tg.Metric("mae", output="price")


@pytest.mark.slow
@pytest.mark.parametrize("task", [regression, segmentation, several])
def test_any_task(task):
    model, x, y, metric = task()
    split = tg.Split(x, y, name="validation")
    (variant,) = measure_variants({"float32": Export(model, tg.convert(model))}, split, metric, joules=False)
    assert variant.metric == pytest.approx(metric.evaluate(model, split).value, rel=1e-4)
    low, high = variant.interval("metric")
    assert low < variant.metric < high and "jackknife" in variant.sources["metric"] and variant.verified
    plain = report_metric(metric)
    assert plain.name == metric.name and plain.higher_is_better == plain.share == (task is segmentation)
