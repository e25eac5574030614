"""What the ways to train are handed: refused with its name, or as arrays."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tfgreen.federated.arguments import check_model, checked_evaluation, checked_pair, resolve_settings, sample_count


@pytest.mark.parametrize("data", [None, [1, 2, 3, 4], (np.ones(3), np.ones(2)), (np.ones((0, 2)), np.ones(0)), (1, 2)])
def test_what_is_no_pair_of_samples_is_refused(data):
    with pytest.raises(ValueError, match=r"data: expected .*It is \(x, y\)"):
        checked_pair("data", data)


def test_samples_come_as_arrays_in_their_structure():
    x, y, weight = checked_pair("data", ({"a": np.ones((2, 1)), "b": np.ones(2)}, np.arange(2), np.ones(2)))
    assert x["a"].shape == (2, 1) and sample_count((x, y, weight)) == 2 and isinstance(y, np.ndarray)
    assert checked_evaluation(None) is None and checked_evaluation(len) is len
    with pytest.raises(ValueError, match="evaluation_data: expected"):
        checked_evaluation(3)


def test_settings_need_clients_and_rounds_and_functions():
    config = tg.federated.FederatedConfig(clients=2, rounds=1)
    assert resolve_settings(config, {"rounds": 3}, model_fn=len).rounds == 3
    with pytest.raises(ValueError, match="config: expected clients and rounds, received no clients and no rounds"):
        resolve_settings(None, {})
    with pytest.raises(TypeError, match="model_fn: expected a function, received int"):
        resolve_settings(config, {}, model_fn=3)


def test_a_model_must_be_built_and_compiled():
    with pytest.raises(ValueError, match="model that model_fn returned is not built"):
        check_model(keras.Sequential([keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="is not compiled"):
        check_model(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
