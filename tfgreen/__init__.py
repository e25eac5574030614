"""tfgreen: make Keras 3 models small, fast and measured.

Every public name is listed here and loaded on first use, so that ``import tfgreen`` does not import TensorFlow.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from tfgreen.version import __version__

if TYPE_CHECKING:  # for editors and type checkers; equal to the table below, which a test holds
    from tfgreen import compat as compat
    from tfgreen import federated as federated
    from tfgreen.config import Config as Config
    from tfgreen.deploy.compressed.compressed_file import load_compressed as load_compressed
    from tfgreen.deploy.compressed.compressed_file import save_compressed as save_compressed
    from tfgreen.deploy.conversion.config import ConvertConfig as ConvertConfig
    from tfgreen.deploy.convert import convert as convert
    from tfgreen.deploy.inspection.benchmark import BenchmarkResult as BenchmarkResult
    from tfgreen.deploy.inspection.benchmark import BenchmarkResults as BenchmarkResults
    from tfgreen.deploy.inspection.benchmark import benchmark as benchmark
    from tfgreen.deploy.inspection.check_calibration import check_calibration as check_calibration
    from tfgreen.deploy.inspection.check_target import check_target as check_target
    from tfgreen.deploy.inspection.compare_layers import compare_layers as compare_layers
    from tfgreen.deploy.inspection.findings import Finding as Finding
    from tfgreen.deploy.inspection.findings import Findings as Findings
    from tfgreen.deploy.inspection.layer_errors import LayerComparison as LayerComparison
    from tfgreen.deploy.inspection.layer_errors import LayerErrors as LayerErrors
    from tfgreen.deploy.inspection.output_errors import OutputComparison as OutputComparison
    from tfgreen.deploy.inspection.output_errors import VerifyLimits as VerifyLimits
    from tfgreen.deploy.inspection.profile_operators import OperatorProfile as OperatorProfile
    from tfgreen.deploy.inspection.profile_operators import OperatorTime as OperatorTime
    from tfgreen.deploy.inspection.profile_operators import profile_operators as profile_operators
    from tfgreen.deploy.litert_model import LiteRTModel as LiteRTModel
    from tfgreen.deploy.litert_model import load_litert as load_litert
    from tfgreen.deploy.tflite.arena import ArenaEstimate as ArenaEstimate
    from tfgreen.deploy.tflite.audit import Audit as Audit
    from tfgreen.deploy.tflite.audit import OperatorStatus as OperatorStatus
    from tfgreen.deploy.tflite.contents import TensorInfo as TensorInfo
    from tfgreen.deploy.tflite.stored_weights import WeightTensor as WeightTensor
    from tfgreen.deploy.verify import VerifyResult as VerifyResult
    from tfgreen.deploy.verify import verify as verify
    from tfgreen.distillation.attention_losses import AttentionMapDistillation as AttentionMapDistillation
    from tfgreen.distillation.attention_losses import AttentionRelationDistillation as AttentionRelationDistillation
    from tfgreen.distillation.distiller import Distiller as Distiller
    from tfgreen.distillation.feature_losses import AttentionTransfer as AttentionTransfer
    from tfgreen.distillation.feature_losses import FeatureDistillation as FeatureDistillation
    from tfgreen.distillation.logits_losses import DecoupledDistillation as DecoupledDistillation
    from tfgreen.distillation.logits_losses import LogitsDistillation as LogitsDistillation
    from tfgreen.distillation.logits_losses import RelationalDistillation as RelationalDistillation
    from tfgreen.distillation.losses import DistillationLoss as DistillationLoss
    from tfgreen.distillation.teacher_cache import TeacherCache as TeacherCache
    from tfgreen.energy.budget import EnergyBudget as EnergyBudget
    from tfgreen.energy.carbon.amount import EnergyAmount as EnergyAmount
    from tfgreen.energy.carbon.best_window import BestWindow as BestWindow
    from tfgreen.energy.carbon.best_window import best_window as best_window
    from tfgreen.energy.carbon.break_even import BreakEven as BreakEven
    from tfgreen.energy.carbon.break_even import break_even as break_even
    from tfgreen.energy.carbon.footprint import CarbonFootprint as CarbonFootprint
    from tfgreen.energy.carbon.footprint import carbon_footprint as carbon_footprint
    from tfgreen.energy.carbon.grid import GridIntensity as GridIntensity
    from tfgreen.energy.carbon.sci import CarbonIntensity as CarbonIntensity
    from tfgreen.energy.carbon.sci import EmbodiedCarbon as EmbodiedCarbon
    from tfgreen.energy.carbon.sci import sci as sci
    from tfgreen.energy.carbon.series import write_example_series as write_example_series
    from tfgreen.energy.devices.figures import DeviceFigure as DeviceFigure
    from tfgreen.energy.devices.figures import MemoryLevel as MemoryLevel
    from tfgreen.energy.devices.profile import DeviceProfile as DeviceProfile
    from tfgreen.energy.inference import EnergyComparison as EnergyComparison
    from tfgreen.energy.inference import InferenceEnergy as InferenceEnergy
    from tfgreen.energy.logger import EnergyLogger as EnergyLogger
    from tfgreen.energy.meter import EnergyMeter as EnergyMeter
    from tfgreen.energy.meter import EnergyReading as EnergyReading
    from tfgreen.energy.power_log import PowerLog as PowerLog
    from tfgreen.energy.prediction import EnergyPrediction as EnergyPrediction
    from tfgreen.energy.sources import EnergyComponent as EnergyComponent
    from tfgreen.errors import ConversionError as ConversionError
    from tfgreen.errors import FileError as FileError
    from tfgreen.errors import InvalidTypeError as InvalidTypeError
    from tfgreen.errors import InvalidValueError as InvalidValueError
    from tfgreen.errors import TfgreenError as TfgreenError
    from tfgreen.federated.coding.codec import UpdateCodec as UpdateCodec
    from tfgreen.model.cost import LayerCost as LayerCost
    from tfgreen.model.cost import ModelProfile as ModelProfile
    from tfgreen.model.cost import profile as profile
    from tfgreen.model.keras2.load import load_model as load_model
    from tfgreen.quantization.ranges import ActivationRange as ActivationRange
    from tfgreen.recipes.compare_channels import ChannelComparison as ChannelComparison
    from tfgreen.recipes.compare_channels import LayerWidth as LayerWidth
    from tfgreen.recipes.compare_channels import compare_channels as compare_channels
    from tfgreen.recipes.data.data import Data as Data
    from tfgreen.recipes.data.split import Split as Split
    from tfgreen.recipes.devices.choose import DeviceEstimate as DeviceEstimate
    from tfgreen.recipes.devices.estimate_energy import EnergyEstimate as EnergyEstimate
    from tfgreen.recipes.devices.estimate_energy import LayerEnergy as LayerEnergy
    from tfgreen.recipes.devices.estimate_energy import estimate_energy as estimate_energy
    from tfgreen.recipes.devices.recommend_device import DeviceRecommendation as DeviceRecommendation
    from tfgreen.recipes.devices.recommend_device import recommend_device as recommend_device
    from tfgreen.recipes.economy.compare_training import TrainingComparison as TrainingComparison
    from tfgreen.recipes.economy.compare_training import compare_training as compare_training
    from tfgreen.recipes.economy.fit import TrainingRun as TrainingRun
    from tfgreen.recipes.economy.fit import fit as fit
    from tfgreen.recipes.economy.training_config import TrainingConfig as TrainingConfig
    from tfgreen.recipes.factorize import FactorizeConfig as FactorizeConfig
    from tfgreen.recipes.factorize import Factorized as Factorized
    from tfgreen.recipes.factorize import LayerFactors as LayerFactors
    from tfgreen.recipes.factorize import factorize as factorize
    from tfgreen.recipes.mask_channels import mask_channels as mask_channels
    from tfgreen.recipes.mask_channels import remove_masked_channels as remove_masked_channels
    from tfgreen.recipes.metrics.metric import Metric as Metric
    from tfgreen.recipes.metrics.metric import MetricValue as MetricValue
    from tfgreen.recipes.prune_channels import prune_channels as prune_channels
    from tfgreen.recipes.prune_channels_config import ChannelPruneConfig as ChannelPruneConfig
    from tfgreen.recipes.recipe.budget import Budget as Budget
    from tfgreen.recipes.recipe.recipe import Recipe as Recipe
    from tfgreen.recipes.run.optimize import optimize as optimize
    from tfgreen.recipes.run.plan import RunPlan as RunPlan
    from tfgreen.recipes.run.plan import plan as plan
    from tfgreen.recipes.search.candidate import Candidate as Candidate
    from tfgreen.recipes.search.result import FrontPoint as FrontPoint
    from tfgreen.recipes.search.result import SearchResult as SearchResult
    from tfgreen.recipes.search.search import search as search
    from tfgreen.recipes.search_precision import MixedPrecision as MixedPrecision
    from tfgreen.recipes.search_precision import Trial as Trial
    from tfgreen.recipes.search_precision import search_precision as search_precision
    from tfgreen.reports.curves import Curve as Curve
    from tfgreen.reports.inference_energy import compare_energy as compare_energy
    from tfgreen.reports.inference_energy import inference_energy as inference_energy
    from tfgreen.reports.report import RunReport as RunReport
    from tfgreen.reports.training_board import TrainingBoard as TrainingBoard
    from tfgreen.surgery.channel_groups import ChannelGroup as ChannelGroup
    from tfgreen.surgery.channel_groups import ChannelGroups as ChannelGroups
    from tfgreen.surgery.channel_groups import channel_groups as channel_groups
    from tfgreen.surgery.depth.prune_layers import prune_layers as prune_layers
    from tfgreen.surgery.depth.shallow_copy import shallow_copy as shallow_copy
    from tfgreen.surgery.trim_vocabulary import trim_vocabulary as trim_vocabulary
    from tfgreen.techniques.cluster import ClusterConfig as ClusterConfig
    from tfgreen.techniques.cluster import cluster as cluster
    from tfgreen.techniques.correct_bias import correct_bias as correct_bias
    from tfgreen.techniques.equalize import equalize as equalize
    from tfgreen.techniques.fold_batch_norm import fold_batch_norm as fold_batch_norm
    from tfgreen.techniques.fuse_batch_norm import fuse_batch_norm as fuse_batch_norm
    from tfgreen.techniques.policies import PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack
    from tfgreen.techniques.prune import PruneConfig as PruneConfig
    from tfgreen.techniques.prune import prune as prune
    from tfgreen.techniques.quantize import quantize as quantize
    from tfgreen.techniques.quantize_config import QuantizeConfig as QuantizeConfig
    from tfgreen.techniques.recalibrate_batch_norm import recalibrate_batch_norm as recalibrate_batch_norm
    from tfgreen.techniques.strip import merge_lora as merge_lora
    from tfgreen.techniques.strip import strip as strip
    from tfgreen.techniques.summary import ModelSummary as ModelSummary
    from tfgreen.techniques.summary import WeightStatus as WeightStatus
    from tfgreen.techniques.summary import summary as summary
    from tfgreen.techniques.weight_only.quantize_weights import QuantizeWeightsConfig as QuantizeWeightsConfig
    from tfgreen.techniques.weight_only.quantize_weights import quantize_weights as quantize_weights
    from tfgreen.training.callbacks import UpdateCompression as UpdateCompression
    from tfgreen.training.pipeline import pipeline as pipeline
    from tfgreen.training.profile_pipeline import PipelineProfile as PipelineProfile
    from tfgreen.training.profile_pipeline import profile_pipeline as profile_pipeline
    from tfgreen.training.schedules import ConstantSparsity as ConstantSparsity
    from tfgreen.training.schedules import PolynomialDecay as PolynomialDecay
    from tfgreen.training.schedules import SparsitySchedule as SparsitySchedule
    from tfgreen.training.summaries import CompressionSummaries as CompressionSummaries
    from tfgreen.transforms.base import TensorTransform as TensorTransform

_PUBLIC = {
    "load_model": "tfgreen.model.keras2.load",
    "profile": "tfgreen.model.cost",
    "PolynomialDecay": "tfgreen.training.schedules",
    "ConstantSparsity": "tfgreen.training.schedules",
    "SparsitySchedule": "tfgreen.training.schedules",
    "UpdateCompression": "tfgreen.training.callbacks",
    "CompressionSummaries": "tfgreen.training.summaries",
    "PruneConfig": "tfgreen.techniques.prune",
    "PruneForLatencyOnXNNPack": "tfgreen.techniques.policies",
    "prune": "tfgreen.techniques.prune",
    "ClusterConfig": "tfgreen.techniques.cluster",
    "cluster": "tfgreen.techniques.cluster",
    "QuantizeConfig": "tfgreen.techniques.quantize_config",
    "quantize": "tfgreen.techniques.quantize",
    "QuantizeWeightsConfig": "tfgreen.techniques.weight_only.quantize_weights",
    "quantize_weights": "tfgreen.techniques.weight_only.quantize_weights",
    "ActivationRange": "tfgreen.quantization.ranges",
    "Distiller": "tfgreen.distillation.distiller",
    "DistillationLoss": "tfgreen.distillation.losses",
    "LogitsDistillation": "tfgreen.distillation.logits_losses",
    "DecoupledDistillation": "tfgreen.distillation.logits_losses",
    "RelationalDistillation": "tfgreen.distillation.logits_losses",
    "FeatureDistillation": "tfgreen.distillation.feature_losses",
    "AttentionTransfer": "tfgreen.distillation.feature_losses",
    "AttentionMapDistillation": "tfgreen.distillation.attention_losses",
    "AttentionRelationDistillation": "tfgreen.distillation.attention_losses",
    "TeacherCache": "tfgreen.distillation.teacher_cache",
    "federated": "tfgreen",
    "compat": "tfgreen",
    "UpdateCodec": "tfgreen.federated.coding.codec",
    "channel_groups": "tfgreen.surgery.channel_groups",
    "ChannelGroups": "tfgreen.surgery.channel_groups",
    "ChannelGroup": "tfgreen.surgery.channel_groups",
    "pipeline": "tfgreen.training.pipeline",
    "profile_pipeline": "tfgreen.training.profile_pipeline",
    "PipelineProfile": "tfgreen.training.profile_pipeline",
    "compare_training": "tfgreen.recipes.economy.compare_training",
    "TrainingComparison": "tfgreen.recipes.economy.compare_training",
    "TrainingBoard": "tfgreen.reports.training_board",
    "RunReport": "tfgreen.reports.report",
    "fit": "tfgreen.recipes.economy.fit",
    "TrainingConfig": "tfgreen.recipes.economy.training_config",
    "TrainingRun": "tfgreen.recipes.economy.fit",
    "prune_channels": "tfgreen.recipes.prune_channels",
    "ChannelPruneConfig": "tfgreen.recipes.prune_channels_config",
    "mask_channels": "tfgreen.recipes.mask_channels",
    "remove_masked_channels": "tfgreen.recipes.mask_channels",
    "compare_channels": "tfgreen.recipes.compare_channels",
    "ChannelComparison": "tfgreen.recipes.compare_channels",
    "LayerWidth": "tfgreen.recipes.compare_channels",
    "fuse_batch_norm": "tfgreen.techniques.fuse_batch_norm",
    "recalibrate_batch_norm": "tfgreen.techniques.recalibrate_batch_norm",
    "fold_batch_norm": "tfgreen.techniques.fold_batch_norm",
    "equalize": "tfgreen.techniques.equalize",
    "correct_bias": "tfgreen.techniques.correct_bias",
    "strip": "tfgreen.techniques.strip",
    "merge_lora": "tfgreen.techniques.strip",
    "trim_vocabulary": "tfgreen.surgery.trim_vocabulary",
    "shallow_copy": "tfgreen.surgery.depth.shallow_copy",
    "prune_layers": "tfgreen.surgery.depth.prune_layers",
    "save_compressed": "tfgreen.deploy.compressed.compressed_file",
    "load_compressed": "tfgreen.deploy.compressed.compressed_file",
    "Data": "tfgreen.recipes.data.data",
    "Split": "tfgreen.recipes.data.split",
    "Metric": "tfgreen.recipes.metrics.metric",
    "MetricValue": "tfgreen.recipes.metrics.metric",
    "Budget": "tfgreen.recipes.recipe.budget",
    "Recipe": "tfgreen.recipes.recipe.recipe",
    "optimize": "tfgreen.recipes.run.optimize",
    "plan": "tfgreen.recipes.run.plan",
    "RunPlan": "tfgreen.recipes.run.plan",
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
    "BenchmarkResult": "tfgreen.deploy.inspection.benchmark",
    "BenchmarkResults": "tfgreen.deploy.inspection.benchmark",
    "Finding": "tfgreen.deploy.inspection.findings",
    "Findings": "tfgreen.deploy.inspection.findings",
    "LayerComparison": "tfgreen.deploy.inspection.layer_errors",
    "LayerErrors": "tfgreen.deploy.inspection.layer_errors",
    "OperatorProfile": "tfgreen.deploy.inspection.profile_operators",
    "OperatorTime": "tfgreen.deploy.inspection.profile_operators",
    "ArenaEstimate": "tfgreen.deploy.tflite.arena",
    "Audit": "tfgreen.deploy.tflite.audit",
    "OperatorStatus": "tfgreen.deploy.tflite.audit",
    "TensorInfo": "tfgreen.deploy.tflite.contents",
    "WeightTensor": "tfgreen.deploy.tflite.stored_weights",
    "OutputComparison": "tfgreen.deploy.inspection.output_errors",
    "VerifyLimits": "tfgreen.deploy.inspection.output_errors",
    "VerifyResult": "tfgreen.deploy.verify",
    "EnergyReading": "tfgreen.energy.meter",
    "EnergyBudget": "tfgreen.energy.budget",
    "EnergyMeter": "tfgreen.energy.meter",
    "EnergyLogger": "tfgreen.energy.logger",
    "inference_energy": "tfgreen.reports.inference_energy",
    "compare_energy": "tfgreen.reports.inference_energy",
    "InferenceEnergy": "tfgreen.energy.inference",
    "EnergyComparison": "tfgreen.energy.inference",
    "EnergyPrediction": "tfgreen.energy.prediction",
    "PowerLog": "tfgreen.energy.power_log",
    "carbon_footprint": "tfgreen.energy.carbon.footprint",
    "CarbonFootprint": "tfgreen.energy.carbon.footprint",
    "Curve": "tfgreen.reports.curves",
    "write_example_series": "tfgreen.energy.carbon.series",
    "BestWindow": "tfgreen.energy.carbon.best_window",
    "best_window": "tfgreen.energy.carbon.best_window",
    "EnergyAmount": "tfgreen.energy.carbon.amount",
    "BreakEven": "tfgreen.energy.carbon.break_even",
    "break_even": "tfgreen.energy.carbon.break_even",
    "CarbonIntensity": "tfgreen.energy.carbon.sci",
    "EmbodiedCarbon": "tfgreen.energy.carbon.sci",
    "sci": "tfgreen.energy.carbon.sci",
    "DeviceProfile": "tfgreen.energy.devices.profile",
    "DeviceFigure": "tfgreen.energy.devices.figures",
    "MemoryLevel": "tfgreen.energy.devices.figures",
    "EnergyEstimate": "tfgreen.recipes.devices.estimate_energy",
    "LayerEnergy": "tfgreen.recipes.devices.estimate_energy",
    "estimate_energy": "tfgreen.recipes.devices.estimate_energy",
    "DeviceEstimate": "tfgreen.recipes.devices.choose",
    "DeviceRecommendation": "tfgreen.recipes.devices.recommend_device",
    "recommend_device": "tfgreen.recipes.devices.recommend_device",
    "MixedPrecision": "tfgreen.recipes.search_precision",
    "search": "tfgreen.recipes.search.search",
    "SearchResult": "tfgreen.recipes.search.result",
    "FrontPoint": "tfgreen.recipes.search.result",
    "Candidate": "tfgreen.recipes.search.candidate",
    "search_precision": "tfgreen.recipes.search_precision",
    "FactorizeConfig": "tfgreen.recipes.factorize",
    "Factorized": "tfgreen.recipes.factorize",
    "LayerFactors": "tfgreen.recipes.factorize",
    "factorize": "tfgreen.recipes.factorize",
    "summary": "tfgreen.techniques.summary",
    "ModelSummary": "tfgreen.techniques.summary",
    "TfgreenError": "tfgreen.errors",
    "InvalidValueError": "tfgreen.errors",
    "InvalidTypeError": "tfgreen.errors",
    "FileError": "tfgreen.errors",
    "ConversionError": "tfgreen.errors",
    "Config": "tfgreen.config",
    "TensorTransform": "tfgreen.transforms.base",
    "ModelProfile": "tfgreen.model.cost",
    "LayerCost": "tfgreen.model.cost",
    "Trial": "tfgreen.recipes.search_precision",
    "WeightStatus": "tfgreen.techniques.summary",
    "EnergyComponent": "tfgreen.energy.sources",
    "GridIntensity": "tfgreen.energy.carbon.grid",
}

__all__ = ["__version__", *_PUBLIC]


# What a saved model may hold. Keras finds these classes once their modules are imported.
_SERIALIZABLE = (
    "tfgreen.transforms.compressed",
    "tfgreen.transforms.mask",
    "tfgreen.transforms.channel_mask",
    "tfgreen.transforms.codebook",
    "tfgreen.transforms.fake_quant",
    "tfgreen.quantization.activation_quantizer",
    "tfgreen.model.operation_layer",
    "tfgreen.surgery.saved_sizes",
    "tfgreen.training.schedules",
    "tfgreen.distillation.losses",
    "tfgreen.distillation.teacher_cache",
    "tfgreen.distillation.distiller",
    "tfgreen.model.keras2.config",
)


def _register_serializable() -> None:
    for module in _SERIALIZABLE:
        importlib.import_module(module)


if not TYPE_CHECKING:  # for which a module with __getattr__ would have every name

    def __getattr__(name: str) -> object:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'tfgreen' has no attribute '{name}'")
        if name == "load_model":
            _register_serializable()
        if _PUBLIC[name] == __name__:
            return importlib.import_module(f"{__name__}.{name}")
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


if "keras" in sys.modules:  # so that `import keras, tfgreen` is enough for keras.models.load_model
    _register_serializable()
