from __future__ import annotations

import keras
import numpy as np
import pytest

from tests import zoo
from tests.surgery.cases import check_removal, half, outputs, randomized
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.remove_channels import remove_channels


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_model_of_the_zoo(name, tmp_path):
    model, x = randomized(zoo.ZOO[name]()), zoo.sample(name, 8)
    weights = [weight.numpy() for weight in model.weights]
    groups, slim = check_removal(model, x)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(weights, model.weights, strict=True))
    assert type(slim) is type(model) and slim.name == model.name
    assert any(group.removable for group in groups)
    slim.save(tmp_path / "slim.keras")
    again = keras.models.load_model(tmp_path / "slim.keras", compile=False)
    for a, b in zip(outputs(slim, x), outputs(again, x), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_left_can_be_trained_and_slimmed_again():
    model = randomized(zoo.residual())
    for _ in range(2):
        groups = channel_groups(model)
        model = remove_channels(model, groups.analysis, half(groups))
    model.compile("sgd", zoo.loss("residual"))
    history = model.fit(zoo.sample("residual", 8), zoo.targets("residual", 8), verbose=0).history["loss"]
    assert np.isfinite(history).all()
