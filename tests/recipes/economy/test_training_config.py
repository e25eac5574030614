from __future__ import annotations

import keras
import pytest

import tfgreen as tg


def test_a_config_goes_into_plain_values_and_back():
    config = tg.TrainingConfig(epochs=3, accumulate=40, schedule="cosine", early_stopping="loss", max_kwh=0.5)
    assert tg.TrainingConfig.from_dict(config.to_dict()) == config
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    assert tg.TrainingConfig(schedule=schedule).schedule is schedule


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": 0}, "epochs.*>= 1"),
        ({"steps_per_execution": 0}, "steps_per_execution.*>= 1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch.*>= 1"),
        ({"patience": 0}, "patience.*>= 1"),
        ({"resize": 1.0}, "resize.*1"),
        ({"max_co2_kg": 1.0}, "region"),
        ({"early_stopping": "loss", "keep_fraction": 0.5}, "early_stopping.*val_.*not all epochs"),
        ({"early_stopping": "accuracy", "resize": 0.5}, "early_stopping.*val_.*not all epochs"),
    ],
    ids=str,
)
def test_fields_out_of_their_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        tg.TrainingConfig(**options)
