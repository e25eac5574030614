"""What simulate, client and server are handed, checked: the functions, the settings, the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.checks import check_instance
from tfgreen.config import resolve_config
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.federated.account import ACCOUNT
from tfgreen.federated.config import FederatedConfig

# From the number of a client to its samples: (x, y) or (x, y, sample_weight), arrays or dicts and lists of them.
DataFunction = Callable[[int], "tuple[Any, ...]"]
CallbacksFunction = Callable[[], Sequence[keras.callbacks.Callback]]


def resolve_settings(
    config: FederatedConfig | None, options: Mapping[str, object], **functions: object
) -> FederatedConfig:
    """The settings; ``functions`` must be such."""
    for name, function in functions.items():
        if not callable(function) or isinstance(function, keras.Layer):
            fix = "Pass a function that makes it, without calling it: each client has its own."
            raise invalid_type(name, expected="a function", received=function, fix=fix)
    if config is None and not {"clients", "rounds"} <= set(options):
        missing = sorted({"clients", "rounds"} - set(options))
        raise invalid_value("config", expected="clients and rounds", received=f"no {' and no '.join(missing)}")
    return resolve_config(FederatedConfig, config, options)


def check_function(name: str, function: object) -> None:
    """Refuse what is neither a function nor None."""
    if function is not None and not callable(function):
        raise invalid_type(name, expected="a function", received=function)


def check_strategy(strategy: object) -> None:
    """Refuse what is no strategy of Flower's, nor None."""
    fix = "Call it, with its settings." if isinstance(strategy, type) else ""
    if strategy is not None and (fix or not callable(getattr(strategy, "configure_train", None))):
        expected = "a strategy of flwr.serverapp.strategy, such as FedAvg()"
        raise invalid_type("strategy", expected=expected, received=strategy, fix=fix)


def check_public(data: object) -> None:
    """Refuse what can be no samples, before there is a model to compare them with."""
    known = data is None or hasattr(data, "__array__") or (hasattr(data, "__iter__") and not isinstance(data, str))
    if not known or isinstance(data, type):
        fix = "It is what the model takes, without targets."
        raise invalid_type("public_data", expected="samples as arrays", received=data, fix=fix)


def made_callbacks(function: CallbacksFunction | None) -> list[keras.callbacks.Callback]:
    """The callbacks of one training."""
    made = [] if function is None else function()
    if not isinstance(made, (list, tuple)):
        raise invalid_type("callbacks_fn, its result", expected="a list of Keras callbacks", received=made)
    for each in made:
        check_instance("callbacks_fn, in its result", each, keras.callbacks.Callback, "a Keras callback")
    return list(made)


def checked_metrics(found: object) -> dict[str, float]:
    """What a function of the user's measured, by name."""
    values: list[tuple[Any, Any]] = list(found.items()) if isinstance(found, Mapping) else [(None, None)]
    if not all(isinstance(name, str) and _is_number(value) for name, value in values):
        expected = "a function that returns a dict of name -> number"
        raise invalid_value("evaluation_data", expected=expected, received=f"one that returns {str(found)[:80]}")
    if taken := sorted(set(ACCOUNT) & {name for name, _ in values}):
        expected = "metrics of other names than those of the account"
        raise invalid_value("evaluation_data", expected=expected, received=taken)
    return {str(name): float(value) for name, value in values}


def _is_number(value: object) -> bool:
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "biuf"


def checked_evaluation(data: Any) -> Any:
    """What the shared model is evaluated with: a function, samples and targets as arrays, or None."""
    return data if data is None or callable(data) else checked_pair("evaluation_data", data)


def checked_pair(subject: str, data: Any) -> tuple[Any, ...]:
    """Samples and targets as arrays: at least one sample, and as many of each array."""
    fix = "It is (x, y) or (x, y, sample_weight), arrays of one length."
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise invalid_value(subject, expected="(x, y)", received=type(data).__name__, fix=fix)
    arrays = tuple(keras.tree.map_structure(np.asarray, part) for part in data)
    lengths = {array.shape[0] if array.ndim else 0 for array in keras.tree.flatten(arrays)}
    if len(lengths) != 1 or lengths == {0}:
        received = f"arrays of {sorted(lengths)} samples"
        fix += " Make arrays of lists: np.array(x)." if any(isinstance(part, list) for part in data) else ""
        raise invalid_value(subject, expected="samples", received=received, fix=fix)
    return arrays


def sample_count(data: tuple[Any, ...]) -> int:
    """How many samples a client has."""
    return int(keras.tree.flatten(data)[0].shape[0])


def check_model(model: object) -> keras.Model:
    """Refuse what ``model_fn`` returned unless it is a built and compiled model."""
    if not isinstance(model, keras.Model):
        fix = "model_fn() makes, compiles and returns a model."
        raise invalid_value("model_fn", expected="a keras.Model", received=type(model).__name__, fix=fix)
    if not model.built or not model.compiled:
        what = "built" if not model.built else "compiled"
        raise invalid_state(f"The model that model_fn returned is not {what}.", "Build and compile it in model_fn.")
    return model
