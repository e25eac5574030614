"""What keeps a file from a device."""

from __future__ import annotations

import keras
from keras import layers

import tfgreen as tg
from tests.energy.devices.test_cost import figure
from tfgreen.recipes.devices.fit import reasons_not_to_fit


def test_a_file_fits_up_to_the_byte_together_with_its_arena():
    lite = tg.convert(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))
    data = tg.DeviceProfile.named("mobile-snapdragon-855").to_dict()
    for room, fits in ((0, True), (-1, False)):
        size = lite.size_bytes + lite.arena_bytes.planned_bytes + room
        data["memory"][-1]["capacity_bytes"] = figure(size)
        assert (not reasons_not_to_fit(lite, tg.DeviceProfile.from_dict(data))) == fits


def test_flash_and_ram_are_looked_at_apart():
    lite = tg.convert(keras.Sequential([keras.Input((8,)), layers.Dense(4)]))
    data = tg.DeviceProfile.named("cortex-m4-stm32l4r5").to_dict()
    assert not reasons_not_to_fit(lite, tg.DeviceProfile.from_dict(data))
    data["memory"][0]["capacity_bytes"] = figure(lite.arena_bytes.planned_bytes - 1)
    (reason,) = reasons_not_to_fit(lite, tg.DeviceProfile.from_dict(data))
    assert reason.startswith("the arena of") and "exceeds SRAM" in reason
