"""Files of models that TFMOT has wrapped: read as its strip functions leave them, with plain layers.

A pruned weight is its mask times the weight, a clustered one is made of its nearest centroids, and of a quantized model
the float weights are read, without its ranges.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

WRAPPERS = (
    "PruneLowMagnitude", "ClusterWeights", "ClusterWeightsRNN", "ClusterWeightsMHA", "QuantizeAnnotate",
    "QuantizeWrapper", "QuantizeWrapperV2",
)
_INPUT = "QuantizeLayer"
# Variables of the wrappers themselves. A layer that had no weights when it was wrapped has its own beside them.
_OWN = re.compile(
    r"(mask|threshold)(_\d+)?|pruning_step|optimizer_step|(cluster_centroids|pulling_indices|ori_weights_vars)_.*"
    r"|.*_(min|max)"
)
_ACTIVATIONS = ("QuantizeAwareActivation", "NoOpActivation")


def unwrapped(config: Any, wrapped: dict[str, str]) -> Any:
    """The config of a model without TFMOT's wrappers, whose names go into ``wrapped`` with those of their layers."""
    if isinstance(config, list):
        return [unwrapped(item, wrapped) for item in config]
    if not isinstance(config, dict):
        return config
    kind, inner = config.get("class_name"), config.get("config")
    if kind in WRAPPERS and isinstance(inner, dict) and isinstance(inner.get("layer"), dict):
        wrapped[inner["name"]] = inner["layer"]["config"]["name"]
        return unwrapped({**config, **_bare(inner["layer"])}, wrapped)
    if kind == _INPUT and isinstance(inner, dict):
        wrapped[inner["name"]] = ""
        return {**config, **_bare({"class_name": "Activation", "config": {"name": inner["name"]}})}
    if kind in _ACTIVATIONS:
        return unwrapped((inner or {}).get("activation", "linear"), wrapped)
    return {key: unwrapped(value, wrapped) for key, value in config.items()}


def _bare(layer: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(layer["config"])
    if layer["class_name"] == "Activation":
        config.setdefault("activation", "linear")
    return {"class_name": layer["class_name"], "config": config, "registered_name": layer.get("registered_name")}


def baked(arrays: list[tuple[str, np.ndarray]], wrapped: Mapping[str, str]) -> list[tuple[str, np.ndarray]]:
    """The weights of the layers inside, by name and in the order of the file, given all that a group of it holds."""
    own = [(name.split("/")[0], name.split("/")[-1].split(":")[0], array) for name, array in arrays]
    result = []
    for (name, array), (scope, leaf, _) in zip(arrays, own):
        if scope not in wrapped:
            result.append((name, array))
        elif wrapped[scope] and not _OWN.fullmatch(leaf):
            result.append((name.replace(scope, wrapped[scope], 1), array))
    used: set[int] = set()
    for scope, leaf, array in own:
        if scope not in wrapped:
            continue
        inside = [n for n, (name, _) in enumerate(result) if name.split("/")[0] == wrapped[scope]]
        if re.fullmatch(r"mask(_\d+)?", leaf):
            place = next(n for n in inside if n not in used and result[n][1].shape == array.shape)
            used.add(place)
            result[place] = (result[place][0], result[place][1] * array)
        elif leaf == "cluster_centroids_tf":  # of a cluster-preserving scheme, which says by numbers what is shared
            numbers = next(found for other, name, found in own if (other, name) == (scope, "pulling_indices_tf"))
            place = next(n for n in inside if result[n][1].shape == numbers.shape)
            result[place] = (result[place][0], _taken(array, numbers.astype(int)))
        elif leaf.startswith("cluster_centroids_"):
            weight = leaf.removeprefix("cluster_centroids_")
            place = next(n for n in inside if re.search(rf"/{re.escape(weight)}(:0)?$", result[n][0]))
            result[place] = (result[place][0], _nearest(result[place][1], array))
    return result


def _taken(centroids: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    if centroids.ndim == 1:
        return centroids[numbers]
    return np.stack([values[numbers[..., channel]] for channel, values in enumerate(centroids)], axis=-1)


def _nearest(weight: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    if centroids.ndim == 1:
        return centroids[np.abs(weight[..., None] - centroids).argmin(-1)]
    columns = [_nearest(weight[..., channel], values) for channel, values in enumerate(centroids)]
    return np.stack(columns, axis=-1)
