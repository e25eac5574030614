"""tfgreen: make Keras 3 models small, fast and measured.

Every public name is listed here and loaded on first use, so that ``import tfgreen`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tfgreen.version import __version__

_PUBLIC = {
    "load_model": "tfgreen.model.load",
    "profile": "tfgreen.model.cost",
    "PolynomialDecay": "tfgreen.training.schedules",
    "ConstantSparsity": "tfgreen.training.schedules",
    "UpdateCompression": "tfgreen.training.callbacks",
    "CompressionSummaries": "tfgreen.training.summaries",
    "PruneConfig": "tfgreen.techniques.prune",
    "PruneForLatencyOnXNNPack": "tfgreen.techniques.policies",
    "prune": "tfgreen.techniques.prune",
    "strip": "tfgreen.techniques.strip",
    "ConvertConfig": "tfgreen.deploy.convert",
    "convert": "tfgreen.deploy.convert",
    "LiteRTModel": "tfgreen.deploy.artifact",
    "load_litert": "tfgreen.deploy.artifact",
    "verify": "tfgreen.deploy.verify",
    "benchmark": "tfgreen.deploy.benchmark",
    "EnergyMeter": "tfgreen.energy.meter",
    "carbon_footprint": "tfgreen.energy.carbon",
    "report": "tfgreen.recipes.layer_report",
}

__all__ = ["__version__", *_PUBLIC]


# What a saved model may hold. Keras finds these classes once their modules are imported.
_SERIALIZABLE = (
    "tfgreen.transforms.layers",
    "tfgreen.transforms.mask",
    "tfgreen.transforms.fake_quant",
    "tfgreen.training.schedules",
    "tfgreen.model.keras2_config",
)


def _register_serializable() -> None:
    for module in _SERIALIZABLE:
        importlib.import_module(module)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'tfgreen' has no attribute '{name}'")
    if name == "load_model":
        _register_serializable()
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:  # so that `import keras, tfgreen` is enough for keras.models.load_model
    _register_serializable()
