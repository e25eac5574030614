"""cluster: the weights of a kernel share a few values, so that each takes a few bits.

Reference: S. Han et al., "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and
Huffman Coding", 2016, arXiv:1510.00149. How the shared values train is in ``transforms/codebook.py``, how they are
chosen in ``transforms/kmeans.py``, the file that is small in ``deploy/compressed_file.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from tfgreen.errors import InvalidValueError, invalid_type, invalid_value, layer_subject
from tfgreen.model.fold import fold_batch_norm
from tfgreen.model.graph import check_built_model, weights_by_path
from tfgreen.model.support import quantizable_weights
from tfgreen.techniques.cluster_settings import ClusterConfig
from tfgreen.techniques.patterns import check_patterns, settings_for_plain, weights_to_compress
from tfgreen.transforms.base import Chain, TensorTransform
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.kmeans import distinct
from tfgreen.transforms.layers import compress, compressed_layers
from tfgreen.transforms.mask import Mask
from tfgreen.transforms.selection import check_finite

_FEW = 256  # values that an integer of 8 bits can tell apart


def cluster(model: keras.Model, config: ClusterConfig) -> keras.Model:
    """Return a copy of ``model`` in which the weights of each kernel share a few values.

    The copy computes with these values at once. Compile it and fit it with ``callbacks=[tg.UpdateCompression()]`` to
    win back accuracy: the values are trained, and every ``frequency`` steps each weight takes the one that is now
    nearest to where training has moved it. Bake it with ``tg.strip``, and write the small file with
    ``tg.save_compressed``.

    ``tfgreen/model/support.py`` lists the kernels. One with no more weights than clusters is left as it is; one with
    no more different values than clusters gets a cluster for each of them. ``tg.report`` shows both.

    Args:
        model: Any built Keras 3 model, pruned before or not. It is not changed.
        config: How to cluster.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError: ``model`` or ``config`` is of another type.
        ValueError: The model is not built, is clustered already, holds NaN or infinite weights, has no weight that can
            be clustered, a pattern matches nothing, two clusters are to hold a sparse weight, batch normalization is to
            be folded into layers that are compressed already, or a layer cannot be copied. The layer is named.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> clustered = tg.cluster(model, tg.ClusterConfig(number_of_clusters=5))
        >>> len(np.unique(tg.strip(clustered).get_layer("out").kernel))
        5
    """
    if not isinstance(config, ClusterConfig):
        raise invalid_type("config", expected="a tg.ClusterConfig", received=config)
    check_built_model(model)
    check_patterns(model, config)
    clustered = 0

    def codebooks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> dict[str, Sequence[TensorTransform]]:
        nonlocal clustered
        chosen = settings_for_plain(path, layer, chains, config, Codebook, "clustered")
        if chosen is None:
            return {}
        variables, channels = weights_by_path(layer), quantizable_weights(layer)
        found: dict[str, Sequence[TensorTransform]] = {}
        for name, axes in weights_to_compress(path, layer, chosen).items():
            before = chains[name].transforms if name in chains else []
            # "Per channel" as in LiteRT, whose depthwise kernels have two axes of channels.
            channel_axes = channels.get(name, axes.outputs) if chosen.per_channel else ()
            subject = f"{layer_subject(path, layer)}, '{name}'"
            codebook = _codebook(subject, variables[name], before, channel_axes, chosen)
            if isinstance(codebook, str):
                layer.kept_dense_because = codebook
            else:
                found[name] = [codebook]
                clustered += 1
        return found

    if config.fold_batch_norm:
        done = compressed_layers(model)
        if done:
            raise invalid_value(
                layer_subject(*done[0]), expected="a plain layer to fold batch normalization into",
                received="a compressed one", fix="Bake it first with tg.strip(model); its zeros are kept.",
            )  # fmt: skip
        model = fold_batch_norm(model)
    result = compress(model, codebooks)
    if not clustered:
        raise invalid_value(
            f"model '{model.name}'", expected="at least one weight that can be clustered", received="none",
            fix=f"Each has no more than {config.number_of_clusters} weights or values, is left out, or is no kernel.",
        )  # fmt: skip
    return result


def hold_clusters(model: keras.Model, chosen: Callable[[str], bool]) -> keras.Model:
    """Return a copy of a model that was clustered and stripped, in which its kernels have codebooks again.

    A kernel counts as clustered if it takes at most 256 values, and each twice or more on average.

    Args:
        model: A built model. It is not changed.
        chosen: Whether the layer of a path is looked at.

    Raises:
        ValueError: No kernel takes so few values.
    """
    held = 0

    def codebooks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> dict[str, Sequence[TensorTransform]]:
        nonlocal held
        found: dict[str, Sequence[TensorTransform]] = {}
        for name in quantizable_weights(layer) if chosen(path) else ():
            before = chains[name].transforms if name in chains else []
            if any(isinstance(transform, Codebook) for transform in before):
                held += 1
                continue
            variable = weights_by_path(layer)[name]
            weight = _value_after(variable, before)
            values = distinct(weight, _FEW)
            if 1 < values <= min(_FEW, weight.size // 2):
                subject = f"{layer_subject(path, layer)}, '{name}'"
                config = ClusterConfig(number_of_clusters=max(values, 3))  # 3, as one may be zero
                codebook = _codebook(subject, variable, before, (), config)
                if isinstance(codebook, Codebook):  # not a kernel of three weights
                    found[name] = [codebook]
                    held += 1
        return found

    result = compress(model, codebooks)
    if not held:
        raise invalid_value(
            f"model '{model.name}'", expected=f"a kernel of at most {_FEW} values (preserve_clusters=True)",
            received="none", fix="Cluster it with tg.cluster first, or leave preserve_clusters out.",
        )  # fmt: skip
    return result


def _codebook(
    name: str,
    variable: keras.Variable,
    before: Sequence[TensorTransform],
    channel_axes: tuple[int, ...],
    config: ClusterConfig,
) -> Codebook | str:
    """The codebook of a weight, initialized, or why it has none."""
    weight = _value_after(variable, before)
    try:
        check_finite(weight)
    except InvalidValueError as error:
        raise InvalidValueError(f"{name}: {error} They cannot be clustered; load a healthy checkpoint.") from error
    wanted = config.number_of_clusters
    size = weight.size // math.prod(weight.shape[axis] for axis in channel_axes)
    if size <= wanted:
        each = "each of its channels" if channel_axes else "it"
        return f"{each} has {size} weights, no more than the {wanted} clusters"
    values = distinct(weight, wanted)
    if values == 1:
        return "all its weights are equal"
    masked = any(isinstance(transform, Mask) for transform in before)
    sparse = masked or bool((weight == 0).any()) if config.preserve_sparsity is None else config.preserve_sparsity
    if sparse and wanted < 3:
        raise invalid_value(
            name, expected="at least 3 clusters, because the weight has zeros, which stay so", received=wanted,
            fix="Raise number_of_clusters, or give up the zeros with preserve_sparsity=False.",
        )  # fmt: skip
    # A zero that the weight lacks, but that a mask will bring, counts as a value.
    count = wanted if channel_axes else min(wanted, values + (sparse and not (weight == 0).any()))
    codebook = Codebook(
        count,
        preserve_sparsity=sparse,
        channel_axes=channel_axes,
        frequency=config.frequency,
        gradient_aggregation=config.gradient_aggregation,
        note=f"{count} clusters, because it has no more values" if count < wanted else "",
    )
    codebook.build(weight.shape)
    codebook.initialize(weight, config.centroids_init, config.seed)
    return codebook


def _value_after(variable: keras.Variable, before: Sequence[TensorTransform]) -> np.ndarray:
    """The weight as a codebook will get it."""
    value = variable.value
    for transform in before:
        if transform.order < Codebook.order:
            value = transform.apply(value)
    return np.asarray(keras.ops.convert_to_numpy(value), "float32")
