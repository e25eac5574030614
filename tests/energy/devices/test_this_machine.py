"""This machine, measured: a whole profile, of files that compute what they count."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tfgreen.energy.devices.profile import DeviceProfile
from tfgreen.energy.devices.this_machine import _Chain, cache_sizes, measured_profile


@pytest.fixture(scope="module")
def profile():
    return DeviceProfile.from_dict(measured_profile())


def test_speeds_are_measured_and_the_rest_says_what_it_is(profile):
    for name, figure in profile.figures().items():
        if "per_second" in name:
            assert figure.source.startswith("measured") and figure.value > 0, name
    assert profile.peak_watts.assumed and profile.price_usd.value is None
    shares = {name: figure.value for name, figure in profile.achievable_share.items() if "functions" not in name}
    assert all(0 < share <= 1 for share in shares.values()) and max(shares.values()) == 1
    caches = [level.capacity_bytes.value for level in profile.memory]
    assert caches == sorted(caches) and list(cache_sizes().values()) == sorted(cache_sizes().values())


def test_speeds_are_those_of_a_computer(profile):
    assert all(1e8 < figure.value < 1e14 for figure in profile.macs_per_second.values())
    assert all(1e8 < figure.value < 1e13 for figure in profile.elements_per_second.values())
    assert all(1e8 < level.bytes_per_second.value < 1e13 for level in profile.memory)
    assert 0 < profile.operator_seconds.value < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_files_compute_what_they_count(dtype):
    chain = _Chain(dtype, (1, 6, 6, 8)).convolutions(16, 3, 1).convolutions(16, 1, 1)
    assert chain.macs == 36 * 8 * 16 * 9 + 36 * 16 * 16
    for built in (chain, _Chain(dtype, (1, 4, 4, 8)).depthwise(2), _Chain(dtype, (1, 8)).dense(4, 1),
                  _Chain(dtype, (1, 8)).functions(2)):
        interpreter = Interpreter(model_content=built.content())
        interpreter.allocate_tensors()
        interpreter.invoke()
        output = interpreter.get_output_details()[0]
        assert interpreter.get_tensor(output["index"]).size == np.prod(output["shape"])
