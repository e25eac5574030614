from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tfgreen as tg
from tfgreen.recipes.prune_channels_config import ChannelPruneConfig, ChannelPruneOptions


def test_the_options_are_the_fields_with_their_types():
    fields = {field.name: field.type for field in dataclasses.fields(ChannelPruneConfig)}
    assert {name: hint.__forward_arg__ for name, hint in ChannelPruneOptions.__annotations__.items()} == fields
    assert not ChannelPruneOptions.__required_keys__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0}, "ratio: expected a number > 0 and < 1 or None, received 0"),
        ({"ratio": 1.2}, "ratio: expected a number > 0 and < 1"),
        ({"ratio": 0.9}, r"ratio: expected a number <= max_ratio \(0.75\).*Raise max_ratio"),
        ({"ratio": 0.5, "target_macs": 0.5}, "ratio and target_macs are given.*Give one"),
        ({"target_macs": -1}, "target_macs: expected a number > 0"),
        ({"max_ratio": 1}, "max_ratio: expected a number > 0 and < 1"),
        ({"round_to": 0}, "round_to: expected an integer >= 1"),
        ({"criterion": "magnitude"}, "criterion: expected 'l1'"),
        ({"scope": "layer"}, "scope: expected 'uniform'"),
        ({"reconstruct": "all"}, "reconstruct: expected 'auto'"),
        ({"loss": "mse"}, "loss: expected None with criterion='l2'"),
        ({"criterion": "taylor", "loss": "mse"}, "x, y and loss go together"),
        ({"quantization": "int8"}, "quantization: expected 'float32' without target_bytes"),
        ({"threads": 2}, "threads: expected 1 without target_bytes or target_latency_ms"),
    ],
)
def test_settings_that_do_not_fit_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        tg.ChannelPruneConfig(**options)


@pytest.mark.parametrize(("options", "message"), [({"ratio": "half"}, "ratio"), ({"keep": "stem"}, "keep: expected a")])
def test_values_of_another_type_are_errors(options, message):
    with pytest.raises(TypeError, match=message):
        tg.ChannelPruneConfig(**options)


def test_what_needs_data_is_said():
    assert "criterion='hessian'" in tg.ChannelPruneConfig(criterion="hessian").needs_data()
    assert "scope='sensitivity'" in tg.ChannelPruneConfig(scope="sensitivity").needs_data()
    assert "calibrated" in tg.ChannelPruneConfig(quantization="int8", target_bytes=0.5).needs_data()
    x = np.zeros((1, 2))
    assert not tg.ChannelPruneConfig(criterion="taylor", x=x, y=x, loss="mse").needs_data()
    assert tg.ChannelPruneConfig().target == "ratio"
    assert tg.ChannelPruneConfig(target_bytes=100).target == "target_bytes"
