import keras
import numpy as np
import pytest

from tests import zoo


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_zoo_model_takes_its_sample_and_trains_on_its_targets(name):
    model = zoo.ZOO[name]()
    model.compile("sgd", loss=zoo.loss(name))
    history = model.fit(zoo.sample(name), zoo.targets(name), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    assert isinstance(model, keras.Model) and model.built
