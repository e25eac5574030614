"""The function of each step."""

from __future__ import annotations

from collections.abc import Mapping

from tfgreen.recipes.mask_channels import remove_masked_channels
from tfgreen.recipes.run.state import StepFunction
from tfgreen.recipes.run.steps import compress, export, train
from tfgreen.techniques.equalize import equalize
from tfgreen.techniques.fold_batch_norm import fold_batch_norm
from tfgreen.techniques.strip import strip

FUNCTIONS: Mapping[str, StepFunction] = {
    export.ORIGINAL_STEP: export.convert_original,
    "train": train.train,
    "distill": train.distill,
    "prune_channels": compress.remove_channels,
    "mask_channels": compress.hold_channels,
    "remove_masked_channels": compress.without_settings(remove_masked_channels),
    "factorize": compress.factorize_kernels,
    "prune": compress.prune_weights,
    "cluster": compress.cluster,
    "quantize": compress.quantize_ranges,
    "equalize": compress.without_settings(equalize),
    "correct_bias": compress.correct,
    "fold_batch_norm": compress.without_settings(fold_batch_norm),
    "recalibrate_batch_norm": compress.recalibrate,
    "strip": compress.without_settings(strip),
    "convert": export.convert,
    "check_target": export.check_file,
    "verify": export.measured_at_the_end,
    "benchmark": export.measured_at_the_end,
    "energy": export.measured_at_the_end,
}
