"""Seconds and joules of work on a device, against the formula by hand."""

from __future__ import annotations

import pytest

import tfgreen as tg
from tfgreen.energy.devices.cost import layer_costs, level_for
from tfgreen.energy.devices.profile import DeviceProfile
from tfgreen.energy.devices.work import LayerWork, ModelWork


def figure(value):
    return {"value": value, "source": "made for this test"}


def device(**changes):
    """1e9 MACs per second, of which convolutions reach half; 100 bytes of fast memory before a slow one."""
    data = DeviceProfile.named("horowitz-45nm").to_dict()
    levels = (("near", 100, 1e9, 1.0), ("far", None, 1e8, 10.0))
    data |= {
        "name": "made",
        "runtime": "litert",
        "macs_per_second": {"int8": figure(1e9)},
        "achievable_share": {"CONV_2D": figure(0.5), "functions": figure(0.1)},
        "elements_per_second": {"int8": figure(1e8)},
        "operator_seconds": figure(1e-6),
        "picojoules_per_mac": {"int8": figure(2.0)},
        "memory": [
            {"level": name, "holds": "all", "capacity_bytes": figure(size), "bytes_per_second": figure(rate),
             "picojoules_per_byte": figure(energy)}
            for name, size, rate, energy in levels
        ],
    }
    return DeviceProfile.from_dict({**data, **changes})


def cost(layer, profile=None):
    return layer_costs(ModelWork("m", {}, (layer,), ()), profile or device())[0]


def test_a_convolution_by_hand():
    found = cost(LayerWork("conv", "CONV_2D", "int8", 1000, 50, 200, 60))
    # the 200 bytes of weights do not fit the near memory, the 60 of activations do
    assert found.levels == {"far": 200, "near": 60}
    assert found.seconds == pytest.approx(1e-6 + 200 / 1e8 + max(1000 / 0.5e9 + 50 / 1e8, 60 / 1e9))
    assert found.compute_joules == pytest.approx(1000 * 2e-12)
    assert found.traffic_joules == pytest.approx(200 * 10e-12 + 60 * 1e-12)


def test_work_without_products_is_bound_by_memory_or_by_its_elements():
    moved = cost(LayerWork("add", "ADD", "int8", 0, 10, 0, 5000))
    assert moved.seconds == pytest.approx(1e-6 + 5000 / 1e8) and moved.compute_joules == 0
    function = cost(LayerWork("sigmoid", "LOGISTIC", "int8", 0, 1000, 0, 90))
    assert function.seconds == pytest.approx(1e-6 + 1000 / (0.1 * 1e8))


@pytest.mark.parametrize(
    "skips, done", [("never", 1000), ("sparse kernels", 250), ("always", 100)]
)
def test_zeros_are_skipped_where_the_kernel_skips_them(skips, done):
    layer = LayerWork("conv", "CONV_2D", "int8", 1000, 50, 200, 60, nonzero_share=0.25, zero_share=0.9)
    found = cost(layer, device(skips_zeros=skips))
    assert found.macs == pytest.approx(done) and found.compute_joules == pytest.approx(done * 2e-12)
    dense = LayerWork("conv", "CONV_2D", "int8", 1000, 50, 200, 60, zero_share=0.9)
    assert cost(dense, device(skips_zeros="sparse kernels")).macs == 1000  # no sparse kernel can run


def test_a_table_of_energies_has_no_seconds_and_a_missing_dtype_is_named():
    layer = LayerWork("conv", "CONV_2D", "float32", 1000, 50, 200, 60)
    found = cost(layer, DeviceProfile.named("horowitz-45nm"))
    assert found.seconds is None and found.compute_joules == pytest.approx(4.6e-9)
    assert found.traffic_joules == pytest.approx(260 * 1.25e-12)
    with pytest.raises(tg.InvalidValueError, match="picojoules_per_mac: expected a figure for float32, in which conv"):
        cost(layer)


def test_each_kind_of_data_goes_to_the_memory_that_holds_it():
    profile = DeviceProfile.named("cortex-m4-stm32l4r5")
    assert level_for(profile, "weights", 10).level == "flash"
    assert level_for(profile, "activations", 10).level == "SRAM"
    assert level_for(device(), "weights", 100).level == "near" and level_for(device(), "weights", 101).level == "far"


def test_the_microcontroller_takes_what_was_published_for_it():
    """MLPerf Tiny v1.1, Krai, microtvm_cmsis_nn: image classification 2.567 inferences per second."""
    layer = LayerWork("resnet8", "CONV_2D", "int8", 12_501_632, 0, 0, 0)
    assert cost(layer, DeviceProfile.named("cortex-m4-stm32l4r5")).seconds == pytest.approx(1 / 2.567, rel=0.02)


def test_few_channels_take_as_long_as_a_whole_group():
    tiled = device(channel_tile={"int8": figure(16)})
    few, many = (LayerWork("conv", "CONV_2D", "int8", 100 * n, 0, 0, 0, channels=n) for n in (3, 16))
    assert cost(few, tiled).seconds == cost(many, tiled).seconds
    assert cost(few).seconds < cost(many).seconds and cost(few, tiled).compute_joules < cost(many).compute_joules
    depthwise = LayerWork("dw", "DEPTHWISE_CONV_2D", "int8", 300, 0, 0, 0, channels=3)
    assert cost(depthwise, tiled).seconds == cost(depthwise).seconds
