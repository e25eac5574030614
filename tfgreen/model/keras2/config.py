"""What Keras 2 wrote into a layer's config that Keras 3 refuses or reads differently, as tables, and their use."""

from __future__ import annotations

import re
from typing import Any

import keras
from keras import ops

from tfgreen.errors import InvalidValueError, invalid_value
from tfgreen.typing import Tensor

ANY: tuple[Any, ...] = ()
TRUST = "If you trust the file, pass safe_mode=False."

# Class of Keras 2 -> class of Keras 3, and the arguments that the old name stood for.
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "SyncBatchNormalization": ("BatchNormalization", {"synchronized": True}),
    "BatchNormalizationV1": ("BatchNormalization", {}),
    "BatchNormalizationV2": ("BatchNormalization", {}),
    "ThresholdedReLU": ("ReLU", {}),
}

# Keys that Keras 3 does not take, and the values that change nothing in inference (ANY: the key never does).
# A key with another value is an error: the layer would compute something else.
DROPPED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("implementation", "input_length", "batch_input_shape", "query_shape", "key_shape"), ANY),
    **dict.fromkeys(("value_shape", "softmax_robust_masking", "rng_type", "fused", "renorm_clipping"), ANY),
    "renorm_momentum": ANY,
    **dict.fromkeys(("time_major", "ragged", "renorm", "causal", "dynamic"), (False,)),
    "virtual_batch_size": (None,),
}

# Keys to drop in some classes only: a depthwise convolution ignores `groups`, the others had no grouped form; a
# separable one has a depthwise and a pointwise kernel and carries the settings of a third that it inherited.
_KERNEL = ("kernel_initializer", "kernel_regularizer", "kernel_constraint")
DROPPED_IN: dict[str, dict[str, tuple[Any, ...]]] = {
    **{f"DepthwiseConv{n}D": {"groups": ANY} for n in (1, 2)},
    **{f"SeparableConv{n}D": {"groups": (1,), **dict.fromkeys(_KERNEL, ANY)} for n in (1, 2)},
    **{f"Conv{n}DTranspose": {"groups": (1,)} for n in (1, 2, 3)},
    **{f"SpatialDropout{n}D": {"trainable": ANY, "noise_shape": (None,)} for n in (1, 2, 3)},
    "Discretization": {"trainable": ANY},
}

# Keys under another name.
RENAMED: dict[str, dict[str, str]] = {
    "InputLayer": {"batch_input_shape": "batch_shape"},
    "LeakyReLU": {"alpha": "negative_slope"},
    "ReLU": {"theta": "threshold"},
}

# Keys that old files leave out because they did not exist yet; Keras 3's default is not what those files mean.
MISSING: dict[str, dict[str, Any]] = {"GRU": {"reset_after": False}, "GRUCell": {"reset_after": False}}

_MISSING_NAME = re.compile(
    r"Could not locate (?:class|function) '([^']+)'|Unknown layer: '([^']+)'"
    r"|Cannot deserialize object of type `([^`]+)`"
    r"|Could not interpret [\w ]+ identifier: (?:\{.*?'class_name': ')?(\w+)"
)

# Where the objects inside a layer's config live, by the end of their key; anything else is a layer.
MODULES = {"_initializer": "initializers", "_regularizer": "regularizers", "_constraint": "constraints"}


@keras.saving.register_keras_serializable(package="tfgreen")
def keras2_hard_sigmoid(x: Tensor) -> Tensor:
    """The hard sigmoid of Keras 2, ``clip(0.2 x + 0.5, 0, 1)``; that of Keras 3 has the slope 1/6."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


# Activations by name: Keras 3 gives the name `hard_sigmoid` to another function.
ACTIVATIONS: dict[str, Any] = {"hard_sigmoid": keras2_hard_sigmoid, "softmax_v2": "softmax"}


def translate(entry: dict[str, Any], where: str, module: str = "layers") -> dict[str, Any]:
    """Translate a layer (or initializer, ...) of a Keras 2 file for ``keras.saving.deserialize_keras_object``.

    ``entry`` is its ``{"class_name": ..., "config": {...}}``, all inside it included; ``where`` its path, for errors.

    Example:
        >>> translate({"class_name": "LeakyReLU", "config": {"name": "a/b", "alpha": 0.1}}, "a/b")["config"]
        {'name': 'a_b', 'negative_slope': 0.1}
    """
    name, extra = CLASSES.get(entry["class_name"], (entry["class_name"], {}))
    built_in = hasattr(getattr(keras, module), name)
    config = dict(entry["config"])
    if module == "layers" and built_in:
        config = _layer_config(name, {**MISSING.get(name, {}), **config, **extra}, where)
    elif module == "initializers" and built_in:
        config.pop("dtype", None)
    if config.get("name"):
        config["name"] = keras3_name(config["name"])
    registered = entry.get("registered_name") or name
    if not built_in and keras.saving.get_registered_object(registered) is None:
        raise unknown_class(where, registered)
    return {
        "module": f"keras.{module}" if built_in else None,
        "class_name": name,
        "registered_name": None if built_in else registered,
        "config": {key: _modern(value, key, where) for key, value in config.items()},
    }


def keras3_name(name: str) -> str:
    """The name that a layer of the file carries in Keras 3, which refuses ``/``."""
    return name.replace("/", "_")


def _modern(value: Any, key: str, where: str) -> Any:
    """Translate one value of a layer's config, and everything inside it."""
    if isinstance(value, list):
        return [_modern(item, key, where) for item in value]
    if not isinstance(value, dict):
        return ACTIVATIONS.get(value, value) if key.endswith("activation") and value else value
    if "items" in value and "class_name" in value:  # {"class_name": "__tuple__" or "TensorShape", "items": [...]}
        return _modern(value["items"], key, where)
    if key == "dtype" and "config" in value:  # a mixed precision policy
        return value["config"]["name"]
    if "class_name" in value and isinstance(value.get("config"), dict) and value["class_name"] != "__lambda__":
        module = next((name for suffix, name in MODULES.items() if key.endswith(suffix)), "layers")
        return translate(value, where, module)
    return {name: _modern(item, name, where) for name, item in value.items()}


def _layer_config(name: str, config: dict[str, Any], where: str) -> dict[str, Any]:
    renamed = {RENAMED.get(name, {}).get(key, key): value for key, value in config.items()}
    harmless = {**DROPPED, **DROPPED_IN.get(name, {})}
    for key in [key for key in renamed if key in harmless]:
        value = renamed.pop(key)
        if harmless[key] and value not in harmless[key]:
            raise invalid_value(
                f"layer '{where}' ({name})",
                expected=f"{key} = {harmless[key][0]}, because Keras 3 has no such setting", received=value,
                fix="Rebuild the model without it and save it again.",
            )
    if name == "BatchNormalization" and isinstance(renamed.get("axis"), list):
        (renamed["axis"],) = renamed["axis"]
    return _lambda(renamed) if name == "Lambda" else renamed


def _lambda(config: dict[str, Any]) -> dict[str, Any]:
    """Python code stored in the file; Keras 3 decides whether it may run."""
    code = config["function"]
    if isinstance(code, list):
        code = {"class_name": "__lambda__", "config": dict(zip(("code", "defaults", "closure"), code))}
    same: dict[str, Any] = {key: config[key] for key in ("name", "trainable", "dtype", "arguments") if key in config}
    return {**same, "function": code}


def unknown_class(where: str, name: str, layer_class: str = "") -> InvalidValueError:
    """The error for a layer whose class, or a function of which, is neither Keras's nor registered nor given."""
    return invalid_value(
        f"layer '{where}' ({layer_class or name})", expected="what Keras 3 has or custom_objects holds",
        received=f"'{name}'",
        fix=f"Pass custom_objects={{'{name}': {name.split('>')[-1]}}}.",
    )


def missing_name(error: Exception) -> str:
    """The class or function that Keras says it does not know, as custom_objects takes it; "" in any other error."""
    found = _MISSING_NAME.search(str(error))
    return next(name for name in found.groups() if name).split(">")[-1] if found else ""


def refused(where: str, name: str, error: Exception) -> InvalidValueError:
    """Keras's own refusal of a layer, in one line with the way out."""
    if missing_name(error):
        return unknown_class(where, missing_name(error), name)
    if refuses_code(error):
        expected = "no Python code stored in the file, which is not run by default"
        return invalid_value(f"layer '{where}' ({name})", expected=expected, received="a lambda", fix=TRUST)
    return broken(where, name, f"what Keras 3 refuses: {one_line(str(error))}")


def refuses_code(error: Exception) -> bool:
    """Whether Keras refuses to run Python code that is stored in the file."""
    return "ambda" in str(error) and "afe" in str(error)


def one_line(text: str) -> str:
    """The line of a Keras error that says what is wrong, without what Keras wraps around it."""
    plain = re.sub(r"\x1b\[\d*m", "", text.split("Exception encountered:")[-1])
    lines = [line.strip() for line in plain.splitlines() if line.strip()] or ["no reason given"]
    wrapped = lines[0].startswith("Exception encountered when calling") and len(lines) > 1
    line = lines[int(wrapped)][:200].rstrip(".")
    return line.encode(errors="backslashreplace").decode()  # h5py reads damaged text as what cannot be printed


def broken(where: str, name: str, received: str) -> InvalidValueError:
    """The error for a layer that cannot be brought over to Keras 3."""
    return invalid_value(
        f"layer '{where}' ({name})", expected="a layer that Keras 3 can build", received=received,
        fix="Load the file with Keras 2 (pip install tf_keras), replace the layer and save it again.",
    )
