"""Keys: what the result of a step depends on, as a hash. Steps of equal keys have equal results."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from typing import Any

import keras

from tfgreen.config import Config
from tfgreen.model.fingerprint import fingerprint as model_fingerprint
from tfgreen.recipes.measure.fingerprint import fingerprint as data_fingerprint
from tfgreen.recipes.run.state import Task
from tfgreen.typing import PlainDict
from tfgreen.version import __version__

_PACKAGES = ("tensorflow", "keras", "ai-edge-litert")


def identity(task: Task) -> PlainDict:
    """What all steps of a run depend on: model, data, metric, loss, seed and versions, as ``run.json`` holds it."""
    loss = task.recipe.loss
    return {
        "model": hash_of(model_fingerprint(task.original), _structure(task.original)),
        "data": data_fingerprint(task.data),
        "metric": None if task.metric is None else task.metric.name,
        "loss": loss if loss is None or isinstance(loss, str) else dict(loss),
        "compiled": _compiled(task.original),
        "seed": task.seed,
        "tfgreen": __version__,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def step_key(before: str, name: str, config: Config, *others: Any) -> str:
    """The key of a step from that of the step before it, and what else it depends on."""
    return hash_of(before, name, config.to_dict(), *others)


def hash_of(*values: Any) -> str:
    """SHA-256, in hexadecimal, of plain values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _structure(model: keras.Model) -> str:
    """The settings of all layers, such as strides, which weights do not show; of a model without them its classes."""
    try:
        config = keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError):
        return type(model).__qualname__
    config.pop("compile_config", None)
    return _without_addresses(config)


def _compiled(model: keras.Model) -> str | None:
    """The losses and metrics that a model was compiled with; its optimizer is not used."""
    if not model.compiled:
        return None
    try:
        config = model.get_compile_config() or {}
    except (NotImplementedError, TypeError, ValueError):
        return "unknown"
    return _without_addresses({name: config.get(name) for name in ("loss", "loss_weights", "metrics")})


def _without_addresses(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return re.sub(r" at 0x[0-9a-f]+", "", text)
