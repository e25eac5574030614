"""Bad input to pruning: each is an error that says what to change."""

from __future__ import annotations

import numpy as np
import pytest

import tfgreen as tg
from tests import zoo

NOW = tg.ConstantSparsity(0.5, begin_step=0)
WANDA = {"criterion": "wanda", "calibration_data": np.ones((2, 12), "float32")}
TAYLOR = {"criterion": "taylor", "loss": "sparse_categorical_crossentropy"}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"criterion": "magnitud"}, "criterion.*'magnitude'.*received 'magnitud'"),
        ({"scope": "model"}, "scope.*'global'"),
        ({"block_pooling": "SUM"}, "block_pooling.*'MAX'"),
        ({"block_size": (0, 2)}, "block_size.*>= 1"),
        ({"m_by_n": (4, 4)}, "m_by_n.*fewer zeros"),
        ({"m_by_n": (5, 4)}, "m_by_n.*fewer zeros"),
        ({"m_by_n": (3, 4)}, r"final sparsity >= 0.75.*received 0.5.*Set it to 0.75"),
        ({"m_by_n": (2, 4), "block_size": (1, 4)}, r"block_size.*\(1, 1\) with m_by_n"),
        ({"m_by_n": (2, 4), "scope": "global"}, "scope.*'layer' with m_by_n"),
        ({"block_size": (2, 2), "scope": "global"}, "scope.*'layer' with block_size"),
        ({"criterion": "threshold"}, "criterion='threshold' needs a threshold.*a magnitude >= 0"),
        ({"threshold": 0.1}, "threshold.*None with criterion='magnitude', received 0.1"),
        ({"criterion": "threshold", "threshold": -1}, "threshold.*>= 0, received -1"),
        ({"criterion": "taylor"}, "criterion='taylor' needs a loss"),
        ({"layers": {"a": tg.PruneConfig(schedule=NOW, layers={"b": None})}}, r"layers\['a'\].*no layers of its own"),
        ({"layers": {"a": tg.PruneConfig(schedule=NOW, policy=len)}}, r"layers\['a'\].*no policy of its own"),
        ({"criterion": "threshold", "threshold": np.inf}, "threshold.*>= 0, received inf"),
        ({"seed": -1}, "seed.*>= 0, received -1"),
        ({"seed": 0.5}, "seed.*>= 0, received 0.5"),
        ({"calibration_data": np.ones((2, 12))}, "calibration_data.*None with criterion='magnitude'.*'wanda'"),
        ({**WANDA, "scope": "erk"}, "scope.*'layer' with criterion='wanda'"),
        ({**WANDA, "block_size": (1, 4)}, r"block_size.*\(1, 1\) with criterion='wanda'"),
        ({**WANDA, "schedule": tg.PolynomialDecay(0, 0.5, 0, 9)}, "schedule.*from step 0 on.*ConstantSparsity"),
        ({**WANDA, "schedule": lambda step: 0.5}, "schedule: expected its final sparsity from step 0 on"),
        ({**WANDA, "y": np.ones(2)}, "y: expected None with criterion='wanda', received ndarray.*'taylor'"),
    ],
)
def test_settings_that_cannot_be_met_say_what_to_change(settings, message):
    with pytest.raises(ValueError, match=message):
        tg.PruneConfig(**{"schedule": NOW, **settings})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layers": {"conf*": None}}, r"layers.*matches one of hidden, .*received 'conf\*'"),
        ({"extra_weights": ("*/gamma",)}, r"extra_weights.*hidden/kernel.*received '\*/gamma'"),
        ({"block_size": (64, 1)}, r"layer 'hidden' \(Dense\).*'kernel'.*no larger than.*\(64, 1\)"),
        ({"criterion": "wanda"}, "criterion='wanda' scores weights by data.*calibration_data=x"),
        ({"criterion": "sparsegpt"}, "criterion='sparsegpt' scores weights by data.*calibration_data=x"),
        ({"criterion": "taylor", "loss": "mse"}, "criterion='taylor' scores weights by data.*x=x.*, y=y"),
        ({**TAYLOR, "x": np.ones((2, 12))}, "criterion='taylor' scores weights by data.*x=x.*, y=y"),
        (
            {"policy": tg.PruneForLatencyOnXNNPack()},
            r"layer 'hidden' \(Dense\).*sparse inference to start.*with a Conv2D",
        ),
        ({"policy": lambda model: {"hiden": "a typo"}}, r"policy.*hidden.*\['hiden'\]"),
        ({"layers": {"*": tg.PruneConfig(schedule=NOW), "hidden": None}}, r"no earlier pattern matches \(none\)"),
        (
            {"layers": {"hidden": tg.PruneConfig(schedule=NOW, extra_weights=("probabilities/bias",))}},
            "extra_weights.*matches one of hidden/kernel, hidden/bias, received 'probabilities/bias'",
        ),
        ({"layers": {"hidden": None}, "extra_weights": ("hidden/bias",)}, "extra_weights.*'hidden/bias'"),
        ({**WANDA, "extra_weights": ("hidden/bias",)}, r"layer 'hidden' \(Dense\).*'wanda' scores.*'bias'"),
        ({**WANDA, "calibration_data": np.ones((0, 12))}, "calibration_data.*at least one sample, received 0"),
        ({**WANDA, "calibration_data": np.full((2, 12), np.nan)}, "calibration_data.*finite numbers.*NaN"),
        ({**TAYLOR, "x": np.ones((3, 12)), "y": np.ones(2)}, r"y: expected targets of 3 samples.*received \[2\]"),
    ],
)
def test_settings_that_do_not_fit_the_model_name_what_does_not(settings, message):
    with pytest.raises(ValueError, match=message):
        tg.prune(zoo.functional(), tg.PruneConfig(schedule=NOW, **settings))


def test_a_type_that_is_wrong_is_named():
    for settings, message in (
        ({"schedule": 0.5}, "schedule.*PolynomialDecay.*received float"),
        ({"criterion": "threshold", "threshold": True}, "threshold.*a number >= 0, received bool"),
        ({"policy": "xnnpack"}, "policy.*callable"),
        ({"m_by_n": 2}, "m_by_n.*two integers"),
        ({"policy": tg.PruneForLatencyOnXNNPack}, "policy.*callable of the model, received type"),
        ({"layers": {"a": 0.5}}, r"layers\['a'\].*tg.PruneConfig or None"),
        ({"layers": ["a"]}, "layers: expected a dict.*received list"),
        ({"layers": {1: None}}, "layers: expected a dict of name pattern"),
        ({"extra_weights": "*/bias"}, r"extra_weights.*tuple of patterns.*received str"),
    ):
        with pytest.raises(TypeError, match=message):
            tg.PruneConfig(**{"schedule": NOW, **settings})


@pytest.mark.parametrize("data", [[1.0, 2.0], 5, np.float32(1)])
def test_data_that_are_no_arrays_of_samples_are_named(data):
    with pytest.raises((TypeError, ValueError), match=r"calibration_data.*(arrays, or|\('samples', 12\))"):
        tg.prune(zoo.functional(), tg.PruneConfig(schedule=NOW, criterion="wanda", calibration_data=data))


@pytest.mark.parametrize("verdicts", [None, ["hidden"], {"hidden": True}])
def test_a_policy_must_return_reasons(verdicts):
    with pytest.raises(TypeError, match="policy.*a dict of layer path -> '', or the reason"):
        tg.prune(zoo.functional(), tg.PruneConfig(schedule=NOW, policy=lambda model: verdicts))


class Unfinished(tg.SparsitySchedule):
    def updates_at(self, step):
        return True


@pytest.mark.parametrize("schedule, text", [
    (tg.SparsitySchedule(), "defines updates_at and sparsity_at"),
    (Unfinished(), "defines sparsity_at"),
    (lambda: 0.5, "one argument, the step"),
    (lambda step, epoch: 0.5, "one argument, the step"),
])
def test_a_schedule_that_cannot_be_asked_is_refused_at_once(schedule, text):
    with pytest.raises(TypeError, match=text):
        tg.PruneConfig(schedule=schedule)


def test_a_loss_that_no_criterion_uses_is_refused():
    with pytest.raises(ValueError, match="loss: expected None.*Choose criterion='taylor'"):
        tg.PruneConfig(loss="mse")
