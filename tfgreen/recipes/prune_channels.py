"""prune_channels: a smaller model, without the channels that matter least.

Which channels go together is in ``surgery/channel_groups.py``, how they are scored in ``surgery/channel_importance.py``
and how many of which group go in ``surgery/channel_selection.py``.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfgreen.config import resolve_config
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.batch_norm import fuse_training
from tfgreen.model.call_spec import read_call_spec
from tfgreen.model.cost import profile
from tfgreen.model.paths import paths_by_name, walk
from tfgreen.model.samples import sample_arrays
from tfgreen.recipes.channel_targets import Unreachable, reach
from tfgreen.recipes.measured_files import latencies_ms, to_lite
from tfgreen.recipes.prune_channels_config import COUNTED, ChannelPruneConfig, ChannelPruneOptions
from tfgreen.structure import pack
from tfgreen.surgery.channel_counts import ChannelCounts
from tfgreen.surgery.channel_groups import ChannelGroup, ChannelGroups, channel_groups
from tfgreen.surgery.channel_scores import channel_scores
from tfgreen.surgery.channel_selection import ChannelSelection, Removed, Widths, kept_groups, residual_groups
from tfgreen.surgery.channel_sensitivity import channel_errors
from tfgreen.surgery.remove_channels import remove_channels, shrink
from tfgreen.techniques.overrides import check_matches, with_aliases
from tfgreen.techniques.reconstruct import reconstruct
from tfgreen.transforms.importance import check_targets

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SCORED, _MEASURED = 256, 400  # samples that a criterion, and the sensitivity of a group, look at
# How far a measured target may be missed, as a share of it; and how far below any is said.
_TOLERANCES = {"target_latency_ms": 0.1, "target_bytes": 0.0}
_FAR_BELOW = 0.1


def prune_channels(
    model: keras.Model, config: ChannelPruneConfig | None = None, **options: Unpack[ChannelPruneOptions]
) -> keras.Model:
    """Return a smaller copy of ``model``, without the channels that matter least.

    Whole channels, units and attention heads are taken out of all weights that hold them, so that the copy is smaller
    and faster in every runtime. Without ``calibration_data`` it computes what the model does with these channels at
    zero; with it, what is left makes up for them as far as it can. Train it further, with the model as its teacher
    (``tg.Distiller``); call the verb again for another round.

    Args:
        model: Any built Keras 3 model of plain layers. It is not changed.
        config: How many channels to remove, and which; by default half of them.
        options: Fields of :class:`ChannelPruneConfig`, which override those of ``config``.

    Returns:
        A model of the same class, layers, and input and output names, not compiled. ``tg.compare_channels(model,
        slim)`` shows what went, and why the rest stayed. It is saved and loaded as any model is; where sizes stand in
        the code of a layer, ``import tfgreen`` before ``keras.models.load_model``, or call ``tg.load_model``.

    Raises:
        TypeError: ``model`` or ``config`` is of another type, or an option is no field.
        ValueError: The model is not built or holds compressed layers; a pattern matches nothing; no channel can be
            removed; data is missing or does not fit; or the target cannot be met: the error names the closest that can.

    Example:
        >>> import keras, tfgreen as tg
        >>> layers = [keras.layers.Dense(64, activation="relu", name="hidden"), keras.layers.Dense(4)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> slim = tg.prune_channels(model, target_macs=0.5)
        >>> slim.get_layer("hidden").units, tg.profile(slim).macs / tg.profile(model).macs
        (32, 0.5)
    """
    config = resolve_config(ChannelPruneConfig, config, options)
    groups = channel_groups(model)
    selection, widths, samples = choose_channels(model, groups, config)
    removed = selection.removed(widths)
    slim = remove_channels(model, groups.analysis, removed, samples)
    if samples is not None and config.reconstruct != "none":
        data = pack(read_call_spec(model).structure, samples)
        found = reconstruct(model, slim, groups.analysis, removed, data, config.reconstruct, config.seed)
        slim = found.model
        if found.doubt:
            warnings.warn(found.doubt, stacklevel=2)
    fuse_training(slim)
    return slim


def choose_channels(
    model: keras.Model, groups: ChannelGroups, config: ChannelPruneConfig
) -> tuple[ChannelSelection, Widths, dict[str, np.ndarray] | None]:
    """The order in which channels go, how many each group has left, and the calibration data by input."""
    paths = [path for path, _ in walk(model)]
    aliases = {named: path for path, named in paths_by_name(model).items()}
    config = dataclasses.replace(config, keep=tuple(with_aliases(dict.fromkeys(config.keep), paths, aliases)))
    for pattern in config.keep:
        check_matches("keep", pattern, paths)
    samples = _samples(model, config)
    counts = ChannelCounts(groups, profile(model))
    selection = _selection(model, groups, counts, config, samples)
    widths = _widths(model, groups, counts, selection, config, samples)
    if not selection.removed(widths):
        if config.round_to == 1:
            most = config.max_ratio if config.ratio is None else config.ratio
            sentence = f"No channel goes: {most:.3g} of the channels is less than one in each layer."
            raise invalid_state(sentence, "Ask for more.")
        sentence = f"No channel goes: too few would, since widths are multiples of round_to={config.round_to}."
        raise invalid_state(sentence, "Ask for more; round_to=1 allows any width.")
    return selection, widths, samples


def _samples(model: keras.Model, config: ChannelPruneConfig) -> dict[str, np.ndarray] | None:
    if config.calibration_data is not None:
        return sample_arrays(config.calibration_data, read_call_spec(model))
    reason = config.needs_data()
    if reason:
        fix = "Pass a few hundred training samples: prune_channels(model, calibration_data=x[:512], ...)."
        raise invalid_state(f"{reason}.", fix)
    return None


def _selection(
    model: keras.Model, groups: ChannelGroups, counts: ChannelCounts, config: ChannelPruneConfig,
    samples: dict[str, np.ndarray] | None,
) -> ChannelSelection:
    scored = samples
    if config.x is not None and config.y is not None:
        scored = sample_arrays(config.x, read_call_spec(model), subject="x")
        check_targets(config.y, len(next(iter(scored.values()))))
    some = None if scored is None else {name: array[:_SCORED] for name, array in scored.items()}
    y = None if config.y is None else keras.tree.map_structure(lambda array: array[:_SCORED], config.y)
    scores = channel_scores(groups, config.criterion, some, y, config.loss, config.seed)
    kept = kept_groups(groups, config.keep) | (residual_groups(groups) if config.keep_residual else set())
    can_go = [group.removable > 0 and group.size > 1 for group in groups]
    free = [score if can_go[n] and n not in kept else None for n, score in enumerate(scores)]
    if all(score is None for score in free):
        why = _why(groups, any(can_go), all(n in kept for n, can in enumerate(can_go) if can), config)
        raise invalid_state(f"Of model '{model.name}' no channel can be removed: {why}.")
    errors, savings = [], []
    if config.scope == "sensitivity" and samples is not None:
        errors = channel_errors(groups, free, functools.partial(_error, model, groups, config, samples))
        savings = [_saving(counts, group, config.target) for group in groups]
    return ChannelSelection(groups, free, config.scope, config.max_ratio, config.round_to, errors, savings)


def _error(
    model: keras.Model, groups: ChannelGroups, config: ChannelPruneConfig, samples: dict[str, np.ndarray],
    removed: Removed,
) -> float:
    """The error of the outputs without some channels, after what is left has made up for them: their order is another
    before that, in which channels weigh most that others can stand in for."""
    slim = shrink(model, groups.analysis, removed)
    data = pack(read_call_spec(model).structure, {name: array[:_MEASURED] for name, array in samples.items()})
    method = "least_squares" if config.reconstruct == "auto" else config.reconstruct
    return min(reconstruct(model, slim, groups.analysis, removed, data, method, config.seed).errors.values())


def _saving(counts: ChannelCounts, group: ChannelGroup, target: str) -> float:
    """What a channel of a group costs: in MACs or weights, as the target does; 1 for a ratio of channels."""
    free = np.flatnonzero([not reason for reason in group.fixed])
    if target == "ratio" or not len(free):
        return 1.0
    (parameters, macs), (parameters_left, macs_left) = counts.count([]), counts.count([(group, free)])
    saved = macs - macs_left if counts.by_macs(target) else parameters - parameters_left
    return max(saved, 1) / len(free)


def _why(groups: ChannelGroups, can_go: bool, all_kept: bool, config: ChannelPruneConfig) -> str:
    if can_go and all_kept:
        residual = " and keep_residual=True hold" if config.keep_residual else " holds"
        return f"keep={config.keep}{residual} all that could be; leave some out"
    if can_go:
        return f"criterion='{config.criterion}' scores none of them; choose another"
    return "; ".join(dict.fromkeys(group.reason or f"'{group.name}' has only one" for group in groups)) or "it has none"


def _widths(
    model: keras.Model, groups: ChannelGroups, counts: ChannelCounts, selection: ChannelSelection,
    config: ChannelPruneConfig, samples: dict[str, np.ndarray] | None,
) -> Widths:
    """How many channels each group has left for the ratio or the target."""
    name, is_latency = config.target, config.target == "target_latency_ms"
    if name == "ratio":
        return selection.widths(0.5 if config.ratio is None else config.ratio)
    if name == "target_macs" and counts.unknown_macs:
        fix = "Set target_parameters, target_bytes or target_latency_ms instead."
        raise invalid_state(f"MACs of {counts.unknown_macs}.", fix)

    def counted(removed: Removed) -> float:
        return counts.count(removed)[int(counts.by_macs(name))]

    def measured(removed: Removed) -> float:
        lite = to_lite(shrink(model, groups.analysis, removed), config.quantization, samples)
        return latencies_ms({name: lite}, config.threads, samples)[name] if is_latency else lite.size_bytes

    cost, estimate, tolerance = (counted, None, 0.0) if name in COUNTED else (measured, counted, _TOLERANCES[name])
    whole, asked = cost([]), float(getattr(config, name))
    target = asked * whole if asked < 1 and not is_latency else asked
    if whole <= target:
        expected = f"less than {_text(whole)}, which the model has already"
        raise invalid_value(name, expected=expected, received=_text(target))
    try:
        widths, reached = reach(selection, target, cost, estimate, tolerance)
    except Unreachable as closest:
        fix = f"The closest is {name}={_text(closest.least)}. Raise max_ratio, lower round_to or keep fewer layers."
        expected = f"at least {_text(closest.least)} (the model has {_text(whole)})"
        raise invalid_value(name, expected=expected, received=_text(target), fix=fix) from None
    if reached < (1 - _FAR_BELOW) * target:
        why = f"widths are multiples of round_to={config.round_to}. Lower it for finer steps"
        why = "channels go as a whole" if config.round_to == 1 else why
        text = f"{name}={_text(target)}: the nearest found below it is {_text(reached)}, since {why}."
        warnings.warn(text, stacklevel=4)
    return widths


def _text(value: float) -> str:
    return f"{value:,.0f}".replace(",", "_") if value >= 1000 else f"{value:.4g}"
