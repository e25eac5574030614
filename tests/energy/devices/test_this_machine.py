"""This machine, measured: a whole profile, of files that compute what they count."""

from __future__ import annotations

import pytest

from tfgreen.energy.devices.profile import DeviceProfile
from tfgreen.energy.devices.this_machine import cache_sizes, measured_profile


@pytest.fixture(scope="module")
def profile():
    return DeviceProfile.from_dict(measured_profile())


def test_speeds_are_measured_and_the_rest_says_what_it_is(profile):
    for name, figure in profile.figures().items():
        if "per_second" in name:
            assert figure.source.startswith("measured") and figure.value > 0, name
    assert profile.peak_watts.assumed and profile.price_usd.value is None
    beside = ("functions", "SOFTMAX")  # shares of elements_per_second
    shares = {name: share.value for name, share in profile.achievable_share.items() if not name.startswith(beside)}
    assert all(0 < share <= 1 for share in shares.values()) and max(shares.values()) == 1
    caches = [level.capacity_bytes.value for level in profile.memory]
    assert caches == sorted(caches) and list(cache_sizes().values()) == sorted(cache_sizes().values())


def test_speeds_are_those_of_a_computer(profile):
    assert all(1e8 < figure.value < 1e14 for figure in profile.macs_per_second.values())
    assert all(1e8 < figure.value < 1e13 for figure in profile.elements_per_second.values())
    assert all(1e8 < level.bytes_per_second.value < 1e13 for level in profile.memory)
    assert 0 < profile.operator_seconds.value < 1e-3
