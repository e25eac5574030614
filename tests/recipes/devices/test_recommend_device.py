"""The choice of a device: what fits, what binds, and why."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.energy.devices.test_cost import figure
from tfgreen.energy.carbon.grid import grid_intensity
from tfgreen.recipes.devices import recommend_device as module


@pytest.fixture(scope="module")
def lite():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((16, 16, 3), name="x"), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(),
         layers.Dense(4, activation="softmax")]
    )
    x = np.random.default_rng(0).random((8, 16, 16, 3)).astype("float32")
    return tg.convert(model, quantization="int8", calibration_data=x, input_dtype="int8", output_dtype="int8")


def test_a_model_on_every_device_with_constraints(lite):
    found = tg.recommend_device(lite, region="DEU", constraints={"latency_ms": 100, "price_usd": 100})
    assert found.choice == "cortex-m4-stm32l4r5" and "only one" in found.reason
    by_name = {estimate.device: estimate for estimate in found.estimates}
    assert "horowitz-45nm" not in by_name and by_name["datacenter-h100"].exceeded["price_usd"] > 100
    small = by_name["cortex-m4-stm32l4r5"]
    assert small.operational_kg == pytest.approx(small.joules / 3.6e6 * 0.381, rel=0.05)
    profile = tg.DeviceProfile.named("cortex-m4-stm32l4r5")
    life = profile.lifetime_years.value * 365.25 * 86400
    assert small.embodied_kg == pytest.approx(profile.embodied_kg.value * small.latency_ms / 1e3 / life)
    embodied = tg.EmbodiedCarbon(profile.embodied_kg.value, life / 3600)
    score = tg.sci(small.joules / 3.6e6, region="DEU", embodied=embodied, hours_per_unit=small.latency_ms / 3.6e6)
    assert small.carbon_kg == small.operational_kg + small.embodied_kg == pytest.approx(score.kg_per_unit)
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["estimates"][0]["source"] == "estimated"
    assert "estimated, per inference" in str(found) and "rgba(46" in found._repr_html_()  # the choice stands out


def test_what_does_not_fit_is_named():
    wide = tg.convert(keras.Sequential([keras.Input((1000,)), layers.Dense(1000)]))
    small = tg.recommend_device(wide, ["cortex-m4-stm32l4r5", "horowitz-45nm"])
    assert small.choice is None
    assert "exceeds flash, 2,097,152 bytes" in small.estimates[0].blocked[0]
    assert small.estimates[1].blocked == ("the profile is a table of energies, no device",)
    waves = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="gelu")])
    blocked = tg.recommend_device(tg.convert(waves), ["cortex-m4-stm32l4r5"]).estimates[0].blocked
    assert any("GELU" in text or "ERF" in text.upper() for text in blocked), blocked
    data = tg.DeviceProfile.named("mobile-snapdragon-855").to_dict() | {"name": "npu", "operators": ["CONV_2D"]}
    data["memory"][-1]["capacity_bytes"] = figure(10)
    texts = tg.recommend_device(wide, [data]).estimates[0].blocked
    assert "FULLY_CONNECTED is not among its operators" in texts and "the file and arena" in texts[0]
    data["macs_per_second"] = {"int8": figure(1e9)}
    assert any("a figure for float32" in text for text in tg.recommend_device(wide, [data]).estimates[0].blocked)


def test_a_keras_model_is_converted_and_says_so():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    assert any("converted to float32" in note for note in tg.recommend_device(model).notes)


@pytest.mark.parametrize("factor, verdict", [(1.0, "within 30 % of it"), (2.0, "NOT within 30 %")])
def test_this_machine_is_checked_against_a_measurement(lite, monkeypatch, factor, verdict):
    estimated = tg.recommend_device(lite, ["mobile-snapdragon-855"]).estimates[0].latency_ms
    profile = tg.DeviceProfile.named("mobile-snapdragon-855").to_dict() | {"name": "this-machine"}

    class Measured:
        median_ms = estimated / factor

    monkeypatch.setattr(module, "benchmark", lambda lite: Measured)
    notes = tg.recommend_device(lite, [profile]).notes
    assert any(note.startswith("checked on this machine") and verdict in note for note in notes)


def test_the_estimate_of_this_machine_is_of_the_order_of_what_is_measured(lite):
    """The figure itself is printed by scripts/bench_energy.py; a test may run on a busy machine."""
    found = tg.recommend_device(lite, ["this-machine"])
    assert 0.1 < found.estimates[0].latency_ms / tg.benchmark(lite, runs=50).min_ms < 10
    assert any("measured" in note for note in found.notes)


def test_what_is_not_known_of_a_device_is_said(lite):
    data = tg.DeviceProfile.named("mobile-snapdragon-855").to_dict() | {"name": "mine"}
    unknown = {"value": None, "source": "not stated"}
    found = tg.recommend_device(lite, ["mobile-snapdragon-855", data | {"base_watts": unknown}])
    assert found.choice == "mobile-snapdragon-855" and "It is not known of mine" in found.reason
    devices = ["cortex-m4-stm32l4r5", data | {"price_usd": unknown}]
    found = tg.recommend_device(lite, devices, constraints={"price_usd": 100})
    assert found.choice == "cortex-m4-stm32l4r5" and "Left out is mine: price_usd is not known." in found.reason
    assert "yes; price_usd is not known" in str(found)


def test_files_and_the_year_of_the_grid(lite, tmp_path):
    data = tg.DeviceProfile.named("mobile-snapdragon-855").to_dict() | {"name": "mine"}
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(data))
    assert tg.recommend_device(lite, [str(path)]).choice == tg.recommend_device(lite, [path]).choice == "mine"
    assert tg.estimate_energy(lite, str(path)).device == tg.estimate_energy(lite, path).device == "mine"
    grid = grid_intensity("DEU")
    notes = tg.recommend_device(lite, [data], region="DEU").notes
    assert any(grid.origin in note and str(grid.year) in note for note in notes)


def test_wrong_options_are_named(lite):
    def refused(match, *args, error=ValueError, **options):
        with pytest.raises(error, match=match):
            tg.recommend_device(lite, *args, **options)

    refused("'latency' is no constraint. Did you mean 'latency_ms'", constraints={"latency": 3}, error=TypeError)
    refused(r"constraints\['joules'\]: expected a number > 0", constraints={"joules": 0})
    refused("prefer: expected 'energy', 'carbon'", prefer="speed")
    refused("region: expected a country, because prefer is 'carbon'", prefer="carbon")
    refused("Close matches: DEU", region="deu")
    refused("devices: expected at least one", [])
    refused("devices: expected each device once, received 'datacenter-h100' twice", ["datacenter-h100"] * 2)
    refused("Did you mean 'datacenter-h100'", ["h100"])
    refused("devices: expected a list of devices", "datacenter-h100", error=TypeError)
    refused("'device' is no option of recommend_device. Did you mean 'devices'", device="x", error=TypeError)
    with pytest.raises(TypeError):
        tg.recommend_device("model.tflite")
