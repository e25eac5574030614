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
    "ClusterConfig": "tfgreen.techniques.cluster",
    "cluster": "tfgreen.techniques.cluster",
    "QuantizeConfig": "tfgreen.techniques.quantize",
    "quantize": "tfgreen.techniques.quantize",
    "ActivationRange": "tfgreen.quantization.ranges",
    "Distiller": "tfgreen.distillation.distiller",
    "LogitsDistillation": "tfgreen.distillation.losses",
    "DecoupledDistillation": "tfgreen.distillation.losses",
    "RelationalDistillation": "tfgreen.distillation.losses",
    "FeatureDistillation": "tfgreen.distillation.losses",
    "AttentionTransfer": "tfgreen.distillation.losses",
    "TeacherCache": "tfgreen.distillation.teacher_cache",
    "recalibrate_batch_norm": "tfgreen.model.batch_norm",
    "fold_batch_norm": "tfgreen.techniques.fold_batch_norm",
    "equalize": "tfgreen.techniques.equalize",
    "correct_bias": "tfgreen.techniques.correct_bias",
    "strip": "tfgreen.techniques.strip",
    "save_compressed": "tfgreen.deploy.compressed.compressed_file",
    "load_compressed": "tfgreen.deploy.compressed.compressed_file",
    "ConvertConfig": "tfgreen.deploy.conversion.config",
    "convert": "tfgreen.deploy.convert",
    "check_calibration": "tfgreen.deploy.inspection.check_calibration",
    "LiteRTModel": "tfgreen.deploy.litert_model",
    "load_litert": "tfgreen.deploy.litert_model",
    "verify": "tfgreen.deploy.verify",
    "compare_layers": "tfgreen.deploy.inspection.compare_layers",
    "benchmark": "tfgreen.deploy.inspection.benchmark",
    "profile_operators": "tfgreen.deploy.inspection.profile_operators",
    "check_target": "tfgreen.deploy.inspection.check_target",
    "arena_bytes": "tfgreen.deploy.inspection.microcontroller",
    "write_c_array": "tfgreen.deploy.inspection.microcontroller",
    "EnergyMeter": "tfgreen.energy.meter",
    "carbon_footprint": "tfgreen.energy.carbon",
    "quantize_within": "tfgreen.recipes.search_precision",
    "report": "tfgreen.techniques.summary",
}

__all__ = ["__version__", *_PUBLIC]


# What a saved model may hold. Keras finds these classes once their modules are imported.
_SERIALIZABLE = (
    "tfgreen.transforms.compressed",
    "tfgreen.transforms.mask",
    "tfgreen.transforms.codebook",
    "tfgreen.transforms.fake_quant",
    "tfgreen.quantization.activation_quantizer",
    "tfgreen.model.operation_layer",
    "tfgreen.training.schedules",
    "tfgreen.distillation.losses",
    "tfgreen.distillation.teacher_cache",
    "tfgreen.distillation.distiller",
    "tfgreen.model.keras2.config",
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
