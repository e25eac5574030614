from __future__ import annotations

import numpy as np
import pytest

from tests import zoo
from tests.surgery.cases import half, randomized
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels
from tfgreen.techniques.reconstruct import reconstruct


@pytest.mark.parametrize("name", ["sequential", "residual", "multi_io", "attention", "batchnorm", "subclassed", "lstm"])
def test_auto_keeps_what_is_nearest_on_samples_held_out(name):
    model, data = randomized(zoo.ZOO[name]()), zoo.sample(name, 200)
    groups = channel_groups(model)
    removed = half(groups)
    slim = remove_channels(model, groups.analysis, removed)
    weights = [weight.numpy() for weight in slim.weights]
    found = reconstruct(model, slim, groups.analysis, removed, data)
    assert found.errors[found.method] == min(found.errors.values()) <= found.errors["none"]
    with_norm = {"batch_norm", "both"} if name in ("residual", "batchnorm") else set()
    assert set(found.errors) == {"none", "least_squares"} | with_norm
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(weights, slim.weights))
    assert found.method != "none" or name in ("lstm", "attention")
    for method in found.errors:
        assert reconstruct(model, slim, groups.analysis, removed, data, method).method == method
