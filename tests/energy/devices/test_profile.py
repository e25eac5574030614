"""Device profiles: what tfgreen brings is complete and has sources; what a user gets wrong is named."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tfgreen as tg
from tfgreen.energy.devices.profile import DeviceProfile, device_names

ROOT = Path(tg.__file__).parents[1]


@pytest.mark.parametrize("name", device_names())
def test_a_profile_has_a_source_for_every_figure_and_survives_its_dict_and_a_file(name, tmp_path):
    profile = DeviceProfile.named(name)
    assert profile.name == name and profile.table and profile.year > 2000
    for figure, item in profile.figures().items():
        assert len(item.source) > 10, figure
        assert (item.value is None) == item.source.startswith("unknown"), figure
    assert DeviceProfile.from_dict(profile.to_dict()) == profile
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(profile.to_dict()))
    assert DeviceProfile.from_file(path) == profile
    assert "assumption" in str(profile) and name in repr(profile)


def test_the_table_of_horowitz_is_as_published():
    profile = DeviceProfile.named("horowitz-45nm")
    energies = {dtype: figure.value for dtype, figure in profile.picojoules_per_mac.items()}
    assert energies["float32"] == pytest.approx(3.7 + 0.9) and energies["int8"] == pytest.approx(0.2 + 0.1)
    assert energies["float16"] == pytest.approx(1.1 + 0.4)
    assert [8 * level.picojoules_per_byte.value for level in profile.memory] == [10, 20, 100, 1300]  # per 64 bits
    assert (profile.node, profile.year) == ("45 nm", 2014)


@pytest.mark.parametrize("name", [n for n in device_names() if DeviceProfile.named(n).runtime == "litert"])
def test_energy_of_arithmetic_and_base_power_add_up_to_the_peak_power(name):
    """Where the energy of a multiply-accumulate is derived from the watts."""
    profile = DeviceProfile.named(name)
    for dtype, figure in profile.picojoules_per_mac.items():
        watts = figure.value * 1e-12 * profile.macs_per_second[dtype].value + profile.base_watts.value
        assert watts == pytest.approx(profile.peak_watts.value, rel=0.01), dtype


def test_a_wrong_profile_is_named_with_its_field():
    data = DeviceProfile.named("horowitz-45nm").to_dict()
    subject = "device profile 'horowitz-45nm'"

    def refused(change, match, error=tg.InvalidValueError):
        changed = json.loads(json.dumps(data))
        change(changed)
        with pytest.raises(error) as caught:
            DeviceProfile.from_dict(changed)
        assert match in str(caught.value)

    refused(lambda d: d.pop("base_watts"), f"{subject}: the field 'base_watts' is missing.")
    refused(lambda d: d.update(base_wats=d.pop("base_watts")), "'base_watts' is missing. Is 'base_wats' meant for it?")
    refused(lambda d: d.update(watt=1), "'watt' is no field.")
    refused(lambda d: d.update(peak_wats=1), "'peak_wats' is no field. Did you mean 'peak_watts'?")
    refused(lambda d: d["memory"][0].pop("holds"), "memory[0]: the field 'holds' is missing")
    refused(lambda d: d["picojoules_per_mac"]["int8"].pop("source"), "['int8']: the field 'source' is missing")
    refused(lambda d: d["price_usd"].update(value=-1), "price_usd, value: expected a number >= 0")
    refused(lambda d: d["price_usd"].update(source=" "), "price_usd, source: expected where the figure comes from")
    refused(lambda d: d["picojoules_per_mac"].update(int7={"value": 1, "source": "x"}), "received 'int7'")
    refused(lambda d: d.update(runtime="tflite"), "runtime: expected 'litert', 'tflm' or 'none', received 'tflite'")
    refused(lambda d: d.update(memory=[]), "memory: expected at least one level")
    refused(lambda d: d.update(title=3), "title: expected text, received int", tg.InvalidTypeError)
    refused(lambda d: d.update(price_usd=3), "price_usd: expected {'value': number", tg.InvalidTypeError)


def test_an_unknown_device_gets_near_names_and_a_wrong_file_its_path(tmp_path):
    with pytest.raises(tg.InvalidValueError, match="Did you mean 'cortex-m4-stm32l4r5'"):
        tg.DeviceProfile.named("cortex-m4")
    with pytest.raises(tg.InvalidTypeError, match="device: expected the name of a device"):
        tg.DeviceProfile.named(4)
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(tg.FileError, match="text.json: expected a device profile in JSON"):
        tg.DeviceProfile.from_file(tmp_path / "text.json")
    with pytest.raises(tg.FileError, match="cannot be read"):
        tg.DeviceProfile.from_file(tmp_path / "none.json")


@pytest.mark.slow
def test_a_wheel_contains_the_profiles(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*command, "."], cwd=ROOT, check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    brought = [Path(name) for name in names if name.endswith(".json")]
    assert {path.stem for path in brought if path.parent.name == "devices"} == set(device_names())


@pytest.mark.parametrize(
    "names, message",
    [
        (["ADD", "FULLY_CONNECTD"], "expected names of LiteRT's operators.*mean 'FULLY_CONNECTED'"),
        (["conv_2d"], "Did you mean 'CONV_2D'"),
        ([3], "received 3. tg.LiteRTModel.operators"),
    ],
)
def test_an_operator_that_there_is_not_is_refused_with_near_names(names, message):
    data = DeviceProfile.named("horowitz-45nm").to_dict()
    with pytest.raises(tg.InvalidValueError, match=message):
        DeviceProfile.from_dict(data | {"operators": names})
    assert DeviceProfile.from_dict(data | {"operators": ["ADD", "CONV_2D"]}).operators == ("ADD", "CONV_2D")


FIGURE = {"value": 0, "source": "a datasheet"}


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("achievable_share", {"other": FIGURE}), ("achievable_share", {"other": FIGURE | {"value": 50}}),
        ("macs_per_second", {"int8": FIGURE}), ("elements_per_second", {"int8": FIGURE}),
        ("channel_tile", {"int8": FIGURE | {"value": 0.5}}), ("lifetime_years", FIGURE),
        ("peak_watts", FIGURE | {"value": 0.1}), ("base_watts", FIGURE | {"value": 1000}),
    ],
    ids=range(8),
)  # fmt: skip
def test_a_figure_that_no_device_has_is_refused(field, wrong):
    data = tg.DeviceProfile.named("desktop-ryzen-7700").to_dict()
    with pytest.raises(ValueError, match="peak_watts" if field == "base_watts" else field):
        tg.DeviceProfile.from_dict(data | {field: wrong})


def test_memory_without_bandwidth_is_refused():
    data = tg.DeviceProfile.named("desktop-ryzen-7700").to_dict()
    level = data["memory"][0] | {"bytes_per_second": FIGURE}
    with pytest.raises(ValueError, match=r"memory\[0\], bytes_per_second"):
        tg.DeviceProfile.from_dict(data | {"memory": [level]})
