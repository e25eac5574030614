"""cluster: the weights of a kernel share a few values, so that each takes a few bits.

Reference: S. Han et al., "Deep Compression", 2016, arXiv:1510.00149. How the shared values train is in
``transforms/codebook.py``, how they are chosen in ``transforms/kmeans.py``.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, get_args

import keras
import numpy as np

from tfgreen.checks import check_bool, check_integer, check_option
from tfgreen.config import Config, resolve_config
from tfgreen.errors import invalid_state, invalid_type, invalid_value, layer_subject, listed
from tfgreen.model.paths import check_built_model, walk, weights_by_path
from tfgreen.model.weights import Reasons, quantizable_weights
from tfgreen.techniques.fold_batch_norm import check_plain, fold_batch_norm
from tfgreen.techniques.overrides import (
    by_attributes,
    check_overrides,
    check_patterns,
    check_without,
    weights_to_compress,
)
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Aggregation, Assignment, Codebook
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.compressed import has_transform
from tfgreen.transforms.fake_quant import FakeQuant
from tfgreen.transforms.kmeans import Initialization, Initializer, distinct
from tfgreen.transforms.lora import merged_value
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.selection import check_finite
from tfgreen.typing import Tensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MOST = 1 << 16
_FEW = 256  # values of an integer of 8 bits


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig(Config):
    """How to cluster.

    Attributes:
        number_of_clusters: How many different values a weight is to have, 2 to 65,536; 3 or more where one is zero.
        centroids_init: How these values are chosen from the weight: ``"kmeans_plus_plus"`` (with Lloyd iterations),
            ``"linear"``, ``"random"`` or ``"density_based"``; see ``tfgreen/transforms/kmeans.py``.
            Or a function ``(values, count) -> centroids`` of arrays of shape (n,) and (at most count,).
        assignment: Which weight takes which value: None for the nearest, or a function ``(weights, centroids) ->
            numbers`` of arrays of shape (n,), (clusters,) and (n,), called for each channel with values of its own.
            Register it with ``keras.saving.register_keras_serializable``, and the model can be loaded.
        per_channel: Whether each output channel gets values of its own, so many for each.
        preserve_sparsity: Whether zero is one of the values, and stays it. None: where the weight has zeros or a mask.
        gradient_aggregation: The gradient of a value, from those of its weights: ``"average"``, with which a learning
            rate means the same for clusters of any size, or ``"sum"``, the exact gradient, as in TFMOT.
        frequency: Training steps between two refreshes of which weight has which value; more than a few unsettle it.
        fold_batch_norm: First fold batch normalization (:func:`tfgreen.fold_batch_norm`). The converter does so after
            training and multiplies each channel by another factor, so that a float ``.tflite`` has a codebook for each
            channel. Off by default, as a network trains better unfolded; for trained models whose file is to keep it.
        seed: For ``"kmeans_plus_plus"`` and ``"random"``.
        layers: Name pattern (``"block*/conv"``) -> another ``ClusterConfig`` for the layers it matches, or None to
            leave them out; those inside a block or a task of KerasHub's too. The first pattern that matches counts.
            Overrides do not nest.
        extra_weights: Patterns of weights (``"depthwise*/kernel"``, ``"*/bias"``) to cluster besides those of
            ``tfgreen/model/weights.py``.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.ClusterConfig(number_of_clusters=16, layers={"head": None})
        >>> tg.ClusterConfig.from_dict(config.to_dict()) == config
        True
    """

    number_of_clusters: int = 16
    centroids_init: Initializer = "kmeans_plus_plus"
    assignment: Assignment | None = None
    per_channel: bool = False
    preserve_sparsity: bool | None = None
    gradient_aggregation: Aggregation = "average"
    frequency: int = 3
    fold_batch_norm: bool = False
    seed: int = 0
    layers: Mapping[str, ClusterConfig | None] = dataclasses.field(default_factory=dict)
    extra_weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_overrides(self)
        check_integer("number_of_clusters", self.number_of_clusters, minimum=2, maximum=_MOST)
        check_integer("frequency", self.frequency, minimum=1)
        check_integer("seed", self.seed, minimum=0)
        if self.preserve_sparsity is not None:
            check_bool("preserve_sparsity", self.preserve_sparsity)
        if self.preserve_sparsity and self.number_of_clusters < 3:
            expected = "an integer >= 3 with preserve_sparsity=True, because one of them is 0"
            raise invalid_value("number_of_clusters", expected=expected, received=self.number_of_clusters)
        if not callable(self.centroids_init):
            check_option("centroids_init", self.centroids_init, get_args(Initialization))
        if self.assignment is not None and not callable(self.assignment):
            raise invalid_type("assignment", expected="a function of weights and centroids", received=self.assignment)
        check_option("gradient_aggregation", self.gradient_aggregation, get_args(Aggregation))
        check_bool("per_channel", self.per_channel)
        check_bool("fold_batch_norm", self.fold_batch_norm)


class ClusterOptions(TypedDict, total=False):
    """The fields of :class:`ClusterConfig` as keyword arguments."""

    number_of_clusters: int
    centroids_init: Initializer
    assignment: Assignment | None
    per_channel: bool
    preserve_sparsity: bool | None
    gradient_aggregation: Aggregation
    frequency: int
    fold_batch_norm: bool
    seed: int
    layers: Mapping[str, ClusterConfig | None]
    extra_weights: tuple[str, ...]


def cluster(model: keras.Model, config: ClusterConfig | None = None, **options: Unpack[ClusterOptions]) -> keras.Model:
    """Return a copy of ``model`` in which the weights of each kernel share a few values.

    The copy computes with these values at once. Compile and fit it with ``callbacks=[tg.UpdateCompression()]`` to win
    back accuracy: the values are trained, and every ``frequency`` steps each weight takes the one now nearest to where
    training has moved it. Bake it with ``tg.strip``, and write the small file with ``tg.save_compressed``.

    ``tfgreen/model/weights.py`` lists the kernels. One with no more weights than clusters is left as it is; one with
    no more different values than clusters gets a cluster for each of them. ``tg.summary`` shows both. A constraint of a
    kernel holds for what is trained; the values that its weights share need not keep it.

    Args:
        model: Any built Keras 3 model, pruned before or not. It is not changed.
        config: How to cluster; by default each kernel gets 16 values.
        options: Fields of :class:`ClusterConfig`, which override those of ``config``.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type, or an option is no field.
        ValueError: The model is not built, is clustered already, holds NaN or infinite weights, has no weight that can
            be clustered, a pattern matches nothing, two clusters are to hold a sparse weight, batch normalization is to
            be folded into layers that are compressed already, or a layer cannot be copied. The layer is named.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> clustered = tg.cluster(model, number_of_clusters=5)
        >>> len(np.unique(tg.strip(clustered).get_layer("out").kernel))
        5
    """
    config = resolve_config(ClusterConfig, config, options)
    check_built_model(model)
    config = by_attributes(model, config)
    check_patterns(model, config)

    def codebooks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        check_without(path, layer, chains, Codebook, "clustered")
        return codebooks_of(path, layer, chains, config)

    if config.fold_batch_norm:
        check_plain(model, "Bake it first with tg.strip(model): its zeros stay. Then fold batch normalization.")
        model = fold_batch_norm(model)
    result = compress(model, codebooks)
    if not has_transform(result, Codebook):
        raise invalid_state(
            f"model '{model.name}' has no weight that can be clustered.",
            f"Each has no more than {config.number_of_clusters} weights or values, is left out, or is no kernel.",
        )
    rounded = [path for path, layer in walk(result) if any(map(_is_rounded_by_channel, getattr(layer, "chains", ())))]
    if rounded:
        warnings.warn(
            f"Layers {listed(rounded)} are quantized with a scale for each channel, which makes more values of their "
            "clusters: cluster the model first, and quantize it then.",
            stacklevel=2,
        )
    return result


def _is_rounded_by_channel(chain: Chain) -> bool:
    """Whether what all channels of a weight share is rounded to a scale of each."""
    shared = any(isinstance(item, Codebook) and not item.channel_axes for item in chain.transforms)
    return shared and any(isinstance(item, FakeQuant) and item.axes for item in chain.transforms)


def codebooks_of(path: str, layer: keras.Layer, chains: Mapping[str, Chain], config: ClusterConfig) -> Choice:
    """The codebooks of one built layer, which its chains are to get."""
    variables, channels = weights_by_path(layer), quantizable_weights(layer)
    found: dict[str, Sequence[TensorTransform]] = {}
    reasons: dict[str, str] = {}
    for name, (axes, chosen) in weights_to_compress(path, layer, config, "get_clusterable_weights").items():
        if chosen is None:
            reasons[name] = Reasons.SETTINGS
            continue
        before = chains[name].transforms if name in chains else []
        # "Per channel" as in LiteRT, whose depthwise kernels have two axes of channels.
        channel_axes = channels.get(name, axes.outputs) if chosen.per_channel else ()
        subject = f"{layer_subject(path, layer)}, '{name}'"
        codebook = _codebook(subject, merged_value(layer, variables[name]), before, channel_axes, chosen)
        if isinstance(codebook, str):
            reasons[name] = codebook
        else:
            found[name] = [codebook]
    return Choice(found, reasons=reasons)


def codebook_of_values(
    subject: str, value: Tensor, before: Sequence[TensorTransform], channel_axes: tuple[int, ...]
) -> Codebook | None:
    """The codebook of a weight that was clustered and stripped, one for each channel where those share no values; None
    if it takes more than 256 values, or hardly any but 0 more than once. ``subject`` names the weight in errors."""
    weight = _value_after(value, before)
    channels = np.moveaxis(weight, channel_axes, range(len(channel_axes))).reshape(_size(weight, channel_axes), -1)
    values = max(distinct(channel, _FEW) for channel in channels)
    if values > _FEW:
        return None
    apart = sum(len(np.unique(channel[channel != 0])) for channel in channels)
    together = len(np.unique(weight[weight != 0]))
    axes = channel_axes if len(channels) > 1 and together >= 0.95 * apart else ()
    values = values if axes else together + bool((weight == 0).any())
    if not 1 < values <= _FEW or (apart if axes else together) > 0.9 * np.count_nonzero(weight):
        return None
    config = ClusterConfig(number_of_clusters=max(values, 3))  # 3, as one may be zero
    codebook = _codebook(subject, value, before, axes, config)
    return codebook if isinstance(codebook, Codebook) else None  # none for a kernel of three weights


def _size(weight: np.ndarray, axes: tuple[int, ...]) -> int:
    return math.prod(weight.shape[axis] for axis in axes)


def _codebook(
    name: str, value: Tensor, before: Sequence[TensorTransform], channel_axes: tuple[int, ...],
    config: ClusterConfig,
) -> Codebook | str:
    """The codebook of a weight, initialized, or why it has none."""
    weight = _value_after(value, before)
    check_finite(weight, name, "They cannot be clustered; load a healthy checkpoint.")
    wanted = config.number_of_clusters
    size = weight.size // _size(weight, channel_axes)
    if size <= wanted:
        where = "each of its channels" if channel_axes else "it"
        return Reasons.FEW_WEIGHTS.format(where=where, size=size, clusters=wanted)
    values = distinct(weight, wanted)
    if values == 1:
        return Reasons.EQUAL_WEIGHTS
    has_zeros = bool((weight == 0).any())
    sparse = config.preserve_sparsity
    if sparse is None:
        sparse = has_zeros or any(isinstance(transform, Mask) for transform in before)
    if sparse and wanted < 3:
        expected = "at least 3 clusters, because the weight has zeros, which stay so"
        fix = "Raise number_of_clusters, or give up the zeros with preserve_sparsity=False."
        raise invalid_value(name, expected=expected, received=wanted, fix=fix)
    # A zero that the weight lacks, but that a mask will bring, counts as a value.
    count = wanted if channel_axes else min(wanted, values + (sparse and not has_zeros))
    note = f"{count} clusters, because it has no more values" if count < wanted else ""
    codebook = Codebook(
        count, sparse, channel_axes, config.frequency, config.gradient_aggregation, note, config.assignment
    )
    codebook.build(weight.shape)
    codebook.initialize(weight, config.centroids_init, config.seed)
    return codebook


def _value_after(value: Tensor, before: Sequence[TensorTransform]) -> np.ndarray:
    """The weight as a codebook will get it."""
    for transform in before:
        if transform.order < Codebook.order:
            value = transform.apply(value)
    return np.asarray(keras.ops.convert_to_numpy(value), "float32")
