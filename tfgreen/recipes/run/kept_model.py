"""A model on disk, from which the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfgreen.model.call_spec import outputs_of, read_call_spec
from tfgreen.model.fingerprint import fingerprint
from tfgreen.model.paths import walk
from tfgreen.model.samples import sample_arrays
from tfgreen.recipes.run.state import Task

_SAMPLES = 4


class CannotKeep(Exception):
    """Keras cannot save a model, or loads another one from what it saved; the text says why."""


def save_kept(model: keras.Model, path: Path, task: Task) -> keras.Model:
    """Save a model, and return what is loaded from there, which computes the same."""
    try:
        model.save(path)
        loaded = load_kept(path, task)
    except OSError:  # of the disk
        raise
    except Exception as error:  # noqa: B902: Keras raises whatever the code of a layer does
        raise CannotKeep(str(error).strip().splitlines()[0] if str(error) else type(error).__name__) from error
    if fingerprint(loaded) != fingerprint(model) or not _computes_the_same(loaded, model, task):
        raise CannotKeep("what Keras loads computes something else: get_config of a layer is incomplete")
    return loaded


def load_kept(path: Path, task: Task) -> keras.Model:
    """Load a model of this run: classes are those of the user's model, which may hold code only if that does."""
    layers = [task.original, *(layer for _, layer in walk(task.original))]
    custom: dict[str, Any] = {}
    for layer in layers:
        kind = type(layer)
        if not kind.__module__.startswith("keras."):
            custom |= {kind.__name__: kind, keras.saving.get_registered_name(kind): kind}
    has_code = any(isinstance(layer, keras.layers.Lambda) for layer in layers)
    return keras.saving.load_model(path, custom_objects=custom, compile=False, safe_mode=not has_code)


def _computes_the_same(one: keras.Model, other: keras.Model, task: Task) -> bool:
    spec = read_call_spec(other)
    arrays = sample_arrays(task.data.train.samples(_SAMPLES), spec)
    outputs = [keras.tree.flatten(outputs_of(model, spec, arrays, _SAMPLES)) for model in (one, other)]
    return len(outputs[0]) == len(outputs[1]) and all(map(_close, *outputs))


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True))
