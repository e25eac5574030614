"""What simulate, client and server are handed, checked: the functions, the settings, the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfgreen.config import resolve_config
from tfgreen.errors import invalid_state, invalid_type, invalid_value
from tfgreen.federated.config import FederatedConfig

# From the number of a client to its samples: (x, y) or (x, y, sample_weight), arrays or dicts and lists of them.
DataFunction = Callable[[int], "tuple[Any, ...]"]
CallbacksFunction = Callable[[], Sequence[keras.callbacks.Callback]]


def resolve_settings(
    config: FederatedConfig | None, options: Mapping[str, object], **functions: object
) -> FederatedConfig:
    """The settings; ``functions`` must be such."""
    for name, function in functions.items():
        if not callable(function):
            raise invalid_type(name, expected="a function", received=function)
    if config is None and not {"clients", "rounds"} <= set(options):
        missing = sorted({"clients", "rounds"} - set(options))
        raise invalid_value("config", expected="clients and rounds", received=f"no {' and no '.join(missing)}")
    return resolve_config(FederatedConfig, config, options)


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
        raise invalid_value(subject, expected="samples", received=f"arrays of {sorted(lengths)} samples", fix=fix)
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
