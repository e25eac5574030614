"""Reconstruct: what a model without some channels can make up for on unlabelled data, before any training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Literal

import keras
import numpy as np

from tfgreen.model.call_spec import outputs_of, read_call_spec
from tfgreen.model.paths import walk
from tfgreen.model.samples import sample_arrays
from tfgreen.surgery.channel_analysis import ChannelAnalysis
from tfgreen.surgery.channel_groups import ChannelGroup
from tfgreen.surgery.least_squares import solve_kernels
from tfgreen.techniques.recalibrate_batch_norm import recalibrate_batch_norm
from tfgreen.typing import Samples

Reconstruction = Literal["none", "least_squares", "batch_norm", "both"]

_METHODS: tuple[Reconstruction, ...] = ("none", "least_squares", "batch_norm", "both")
_SAMPLES = 1000
_LARGEST = 512 << 20  # bytes of the largest tensor of a run on all samples
_HELD_OUT = 5  # one of so many samples is not solved on
_FEW = 2 * _HELD_OUT
_BATCH = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstructed:
    """The model that was chosen, how it was made, and the error of each candidate: the mean square of what its outputs
    are off on held-out samples, over the variance of the outputs. ``doubt`` is a sentence where the choice does not
    help, or too few samples were there to say; else ""."""

    model: keras.Model
    method: Reconstruction
    errors: Mapping[Reconstruction, float]
    doubt: str


def reconstruct(
    model: keras.Model,
    slim: keras.Model,
    analysis: ChannelAnalysis,
    removed: Iterable[tuple[ChannelGroup, np.ndarray]],
    calibration_data: Samples,
    method: Reconstruction | Literal["auto"] = "auto",
    seed: int = 0,
) -> Reconstructed:
    """Bring ``slim``, which is ``model`` without the ``removed`` channels of an analysis, nearer to what it was.

    Least squares solve each kernel behind removed channels anew, ``"batch_norm"`` takes the statistics of batch
    normalization anew, where there is any, ``"both"`` does one after the other. ``"auto"`` keeps whichever is nearest
    to the outputs of the model on samples that are held out.
    """
    samples = _drawn(sample_arrays(calibration_data, read_call_spec(model)), analysis, seed)
    count = len(next(iter(samples.values())))
    every = min(_HELD_OUT, count)
    is_held = np.arange(count) % every == every - 1
    if count - is_held.sum() < (read_call_spec(model).batch or 1):  # too few are left to run
        is_held[:] = False
    known = {name: array[~is_held] for name, array in samples.items()}
    unseen = {name: array[is_held] for name, array in samples.items()} if is_held.any() else known
    removed = list(removed)
    has_norm = any(isinstance(layer, keras.layers.BatchNormalization) for _, layer in walk(slim))
    wanted: tuple[Reconstruction, ...] = _METHODS if method == "auto" else (method,)
    candidates: dict[Reconstruction, keras.Model] = {"none": slim}
    if {"least_squares", "both"} & set(wanted):
        candidates["least_squares"] = solve_kernels(model, slim, analysis, removed, known, seed)
    if has_norm and "batch_norm" in wanted:
        candidates["batch_norm"] = _recalibrated(slim, known)
    if "both" in wanted and (has_norm or method == "both"):
        solved = candidates["least_squares"]
        candidates["both"] = _recalibrated(solved, known) if has_norm else solved
    expected = _outputs(model, unseen)
    errors = {name: _error(expected, _outputs(candidate, unseen)) for name, candidate in candidates.items()}
    tried = [name for name in errors if name in wanted]
    best = min(tried, key=lambda name: errors[name]) if tried else "none"
    return Reconstructed(candidates[best], best, errors, _doubt(method, best, candidates, errors, count))


def _doubt(
    method: Reconstruction | Literal["auto"], best: Reconstruction, candidates: Mapping[Reconstruction, keras.Model],
    errors: Mapping[Reconstruction, float], count: int,
) -> str:
    """Why what was asked for does not help, or may not."""
    asked, samples = f"reconstruct='{method}'", f"{count} sample" + "s" * (count > 1)
    if method == "batch_norm" and best == "none":
        return f"{asked} changes nothing: the model has no BatchNormalization. Choose 'least_squares' or 'auto'."
    if method != "none" and method == best and _are_equal(candidates["none"], candidates[best]):
        return f"{asked} changes nothing: no kernel behind the channels that went can be solved anew. Train the result."
    if errors[best] > errors["none"]:
        figures = f"{errors[best]:.3g} of their variance, {errors['none']:.3g} without it"
        fix = "Pass more, or choose 'auto', which keeps what helps."
        return f"{asked} on {samples} brings the outputs further from the model's ({figures}). {fix}"
    if method != "none" and count < _FEW:
        return f"{asked} on {samples} may not hold for others, which these are too few to tell. Pass a few hundred."
    return ""


def _are_equal(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def _drawn(samples: dict[str, np.ndarray], analysis: ChannelAnalysis, seed: int) -> dict[str, np.ndarray]:
    """As many samples, at random, as one run of the model can hold."""
    tensors = [tensor for call in analysis.trace.calls for tensor in call.outputs]
    largest = max((math.prod(size or 1 for size in tensor.shape) * 4 for tensor in tensors), default=1)
    total = len(next(iter(samples.values())))
    count = min(total, _SAMPLES, max(16, _LARGEST // largest))
    chosen = np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    return {name: array[chosen] for name, array in samples.items()}


def _recalibrated(model: keras.Model, samples: Mapping[str, np.ndarray]) -> keras.Model:
    count = len(next(iter(samples.values())))
    return recalibrate_batch_norm(model, dict(samples), batch_size=min(count, _BATCH))


def _outputs(model: keras.Model, samples: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [output.astype(np.float64) for output in outputs_of(model, read_call_spec(model), samples, _BATCH)]


def _error(expected: list[np.ndarray], got: list[np.ndarray]) -> float:
    """The mean square error of all outputs, each over its variance."""
    shares = [np.square(a - b).mean() / (a.var() or 1.0) for a, b in zip(expected, got)]
    return float(np.mean([share if np.isfinite(share) else np.inf for share in shares]))
