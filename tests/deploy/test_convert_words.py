"""What a new user is told where a conversion cannot be what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tests import zoo

X = zoo.sample("functional", 32)


@pytest.mark.parametrize("quantization", ["float32", "float16", "dynamic"])
def test_trained_ranges_in_a_float_file_are_noted(quantization):
    quantized = tg.quantize(zoo.functional(), calibration_data=X)
    notes = tg.convert(quantized, quantization=quantization).notes
    assert any("trained ranges" in note and "quantization='int8'" in note for note in notes)
    assert not any("trained ranges" in note for note in tg.convert(quantized, quantization="int8").notes)


def test_weights_that_are_no_numbers_cannot_become_integers():
    model = zoo.spoiled(np.nan)
    with pytest.raises(ValueError, match="weight 'hidden/kernel': expected numbers.*received 2 NaN.*checkpoint"):
        tg.convert(model, quantization="int8", calibration_data=X)


def test_a_wrong_range_or_limit_is_named():
    with pytest.raises(ValueError, match=r"ranges: expected 'moving_average'.*or a range such as tg.ActivationRange"):
        tg.QuantizeConfig(ranges="foo")
    with pytest.raises(ValueError, match="ranges: expected"):
        tg.QuantizeConfig(ranges=tg.ActivationRange)
    with pytest.raises(ValueError, match="bits: expected 2, 3, 4, 5, 6, 7, 8 or 16, received '8'"):
        tg.ActivationRange("8")
    lite = tg.convert(zoo.functional())
    with pytest.raises(ValueError, match="agreement: expected a number >= 0 and <= 1, received 90"):
        tg.verify(zoo.functional(), lite, X, agreement=90)
    with pytest.raises(ValueError, match="threads: expected an integer >= 1 and <= 1024"):
        tg.benchmark(lite, threads=10**6)


def test_a_good_file_needs_no_remedy():
    model = zoo.functional()
    errors = tg.compare_layers(model, tg.convert(model), X)
    assert errors.cause.startswith("No layer loses much") and "keep_float" not in errors.cause
