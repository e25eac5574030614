"""What every verb promises of transformers: it trains, saves, loads, strips and converts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests import zoo
from tests.transformers import FAMILIES, LONG, length_of, samples

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # masks that T5 drops, random weights that lose in int8

every_family = pytest.mark.parametrize("name", ["plain", *zoo.slow(*(name for name in FAMILIES if name != "plain"))])

VERBS: dict[str, Callable[[keras.Model, Any], keras.Model]] = {
    "prune": lambda model, x: tg.prune(model),
    "cluster": lambda model, x: tg.cluster(model, number_of_clusters=8),
    "quantize": lambda model, x: tg.quantize(model, calibration_data=x),
    "quantize_weights": lambda model, x: tg.quantize_weights(
        model, bits=4, group_size=16, method="gptq", calibration_data=x
    ),
}


def made(name: str) -> tuple[keras.Model, Any]:
    keras.utils.set_random_seed(0)
    model = FAMILIES[name]()
    x = samples(model)
    return model, x if isinstance(model.input, dict) else next(iter(x.values()))


def outputs(model: Any, x: Any) -> list[np.ndarray]:
    y = model.predict(x) if isinstance(model, tg.LiteRTModel) else model.predict(x, verbose=0)
    return [np.asarray(leaf) for leaf in keras.tree.flatten(y)]


def off(expected: list[np.ndarray], got: list[np.ndarray]) -> float:
    """The largest error, as a share of the largest value."""
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(expected, got, strict=True))


def train_a_step(model: keras.Model, x: Any) -> None:
    model.compile("adam", "mse")
    y = model.predict(x, verbose=0)
    model.fit(x, keras.tree.map_structure(lambda leaf: np.zeros_like(leaf), y), verbose=0,
              callbacks=[tg.UpdateCompression()])


@pytest.mark.slow
@every_family
def test_the_file_after_quantization_aware_training_is_as_integer_as_after_post_training(name):
    model, x = made(name)
    after = tg.convert(model, quantization="int8", calibration_data=x, **length_of(name))
    aware = tg.quantize(model, calibration_data=x)
    lite = tg.convert(aware, quantization="int8", **length_of(name))
    assert len(lite.content) <= 1.05 * len(after.content)
    floats = {n: w.values.size for n, w in lite.weights.items() if w.values.dtype == np.float32}
    assert max(floats.values(), default=0) <= 256
    assert off(outputs(model, x), outputs(aware, x)) < 0.2 and off(outputs(aware, x), outputs(lite, x)) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_so_it_is_of_tables_of_positions_and_of_experts(name):
    keras.utils.set_random_seed(0)
    model, rng, length = LONG[name](), np.random.default_rng(0), 64
    x = {t.name: rng.integers(0, 500, (16, length)).astype(t.dtype) for t in model.inputs if "mask" not in t.name}
    x |= {t.name: np.ones((16, length), t.dtype) for t in model.inputs if "mask" in t.name}
    after = tg.convert(model, quantization="int8", calibration_data=x, sequence_length=length)
    aware = tg.quantize(model, calibration_data=x)
    lite = tg.convert(aware, quantization="int8", sequence_length=length)
    assert len(lite.content) <= 1.05 * len(after.content)
    assert all(w.values.size <= 1024 for w in lite.weights.values() if w.values.dtype == np.float32)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", zoo.slow(*FAMILIES))
def test_each_verb_trains_a_step_saves_loads_strips_and_converts(name, verb, lora, tmp_path):
    model, x = made(name)
    if lora:
        backbone = getattr(model, "backbone", model)
        if not hasattr(backbone, "enable_lora"):
            pytest.skip("Keras's own models have none")
        backbone.enable_lora(2)
    result = VERBS[verb](model, x)
    train_a_step(result, x)
    expected = outputs(result, x)
    result.save(tmp_path / "model.keras")
    loaded = tg.load_model(tmp_path / "model.keras")
    assert off(expected, outputs(loaded, x)) < 1e-5
    plain = tg.strip(loaded)
    if verb != "quantize":
        assert off(expected, outputs(plain, x)) < 1e-4
        lite = tg.convert(loaded, **length_of(name))
        assert off(expected, outputs(lite, x)) < 1e-3
    else:
        lite = tg.convert(loaded, quantization="int8", **length_of(name))
        assert off(expected, outputs(lite, x)) < 0.25
