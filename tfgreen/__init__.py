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
    "PruneConfig": "tfgreen.techniques.prune_settings",
    "PruneForLatencyOnXNNPack": "tfgreen.techniques.policies",
    "prune": "tfgreen.techniques.prune",
    "ClusterConfig": "tfgreen.techniques.cluster_settings",
    "cluster": "tfgreen.techniques.cluster",
    "QuantizeConfig": "tfgreen.techniques.quantize_settings",
    "quantize": "tfgreen.techniques.quantize",
    "ActivationRange": "tfgreen.transforms.ranges",
    "Distiller": "tfgreen.techniques.distill",
    "LogitsDistillation": "tfgreen.training.distillation_losses",
    "DecoupledDistillation": "tfgreen.training.distillation_losses",
    "RelationalDistillation": "tfgreen.training.distillation_losses",
    "FeatureDistillation": "tfgreen.training.distillation_losses",
    "AttentionTransfer": "tfgreen.training.distillation_losses",
    "TeacherCache": "tfgreen.training.teacher",
    "recalibrate_batch_norm": "tfgreen.model.batch_norm",
    "fold_batch_norm": "tfgreen.model.fold",
    "equalize": "tfgreen.techniques.equalize",
    "correct_bias": "tfgreen.techniques.correct_bias",
    "strip": "tfgreen.techniques.strip",
    "save_compressed": "tfgreen.deploy.compressed_file",
    "load_compressed": "tfgreen.deploy.compressed_file",
    "ConvertConfig": "tfgreen.deploy.convert_settings",
    "convert": "tfgreen.deploy.convert",
    "check_calibration": "tfgreen.deploy.check_calibration",
    "LiteRTModel": "tfgreen.deploy.artifact",
    "load_litert": "tfgreen.deploy.artifact",
    "verify": "tfgreen.deploy.verify",
    "compare_layers": "tfgreen.deploy.verify_layers",
    "benchmark": "tfgreen.deploy.benchmark",
    "profile_operators": "tfgreen.deploy.profile_operators",
    "check_target": "tfgreen.deploy.targets",
    "arena_bytes": "tfgreen.deploy.microcontroller",
    "write_c_array": "tfgreen.deploy.microcontroller",
    "EnergyMeter": "tfgreen.energy.meter",
    "carbon_footprint": "tfgreen.energy.carbon",
    "born_again": "tfgreen.recipes.born_again",
    "quantize_within": "tfgreen.recipes.precision",
    "report": "tfgreen.recipes.layer_report",
    "weight_histograms": "tfgreen.recipes.histograms",
}

__all__ = ["__version__", *_PUBLIC]


# What a saved model may hold. Keras finds these classes once their modules are imported.
_SERIALIZABLE = (
    "tfgreen.transforms.layers",
    "tfgreen.transforms.mask",
    "tfgreen.transforms.codebook",
    "tfgreen.transforms.fake_quant",
    "tfgreen.training.schedules",
    "tfgreen.training.distillation_losses",
    "tfgreen.training.teacher",
    "tfgreen.techniques.distill",
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
