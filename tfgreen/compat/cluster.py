"""TFMOT's ``clustering.keras``: weights that share values, over ``tg.cluster``'s codebooks; it takes no callback."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import keras

from tfgreen.compat.algorithm import GradientAggregation
from tfgreen.compat.clusterable import METHODS, CentroidInitialization
from tfgreen.compat.saved import wrapped_by_tfmot
from tfgreen.compat.told import tell_difference
from tfgreen.compat.wrappers.clustered import ClusterWeights, codebooks
from tfgreen.compat.wrappers.strip import stripped
from tfgreen.compat.wrappers.wrapper import check_board_keywords, check_keywords, is_unbuilt, on_any, on_unbuilt
from tfgreen.errors import InvalidValueError
from tfgreen.model.paths import check_built_model
from tfgreen.reports.training_board import TrainingBoard
from tfgreen.techniques.cluster import ClusterConfig
from tfgreen.transforms.base import ActivationHook, Chain
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compress import compress
from tfgreen.transforms.compressed import has_transform
from tfgreen.transforms.kmeans import Initialization
from tfgreen.typing import FilePath

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    class ClusterArguments(TypedDict, total=False):
        """The arguments that TFMOT's ``cluster_weights`` passes on to its wrapper."""

        preserve_sparsity: bool
        cluster_per_channel: bool
        cluster_gradient_aggregation: GradientAggregation | str
        name: str


L = TypeVar("L")  # a model, layer or list of layers
_DIFFERENCE = (
    "k-means++ goes on to convergence, clusters per channel are for every layer class, layers see the training flag, "
    "zeros survive loading, the input is copied, the layers of a model keep their names, and layers that TFMOT refuses "
    "are clustered, or left as they are."
)
_TAKES = (
    "`cluster_weights` can only cluster an object of the following types: keras.models.Sequential, keras functional "
    "model, keras.layers.Layer, list of keras.layers.Layer. You passed an object of type: {}."
)


def cluster_weights(
    to_cluster: L,
    number_of_clusters: int,
    cluster_centroids_init: CentroidInitialization | str = CentroidInitialization.KMEANS_PLUS_PLUS,
    **kwargs: Unpack[ClusterArguments],
) -> L:
    """Return a model, layer or list of layers whose kernels hold a few values each; training moves these.

    Args:
        to_cluster: A model, built or not, a layer or a list of layers. What has weights is copied.
        number_of_clusters: How many values a kernel may hold, at least 2, or 3 where one of them is zero.
        cluster_centroids_init: How they are chosen.
        kwargs: ``preserve_sparsity``, ``cluster_per_channel``, ``cluster_gradient_aggregation``
            (``"GradientAggregation.SUM"`` or ``"GradientAggregation.AVG"``), and arguments of the wrapper's layer
            (``name``), where one layer is given.

    Raises:
        ValueError: It is nothing of the kind, a subclassed model without weights, or an argument is out of range.
        TypeError: It is of Keras 2.

    Example:
        >>> import keras, numpy as np, tfgreen.compat as tfmot
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> clustered = tfmot.clustering.keras.cluster_weights(model, 5)
        >>> clustered.compile("sgd", "mse")
        >>> x = keras.random.normal((4, 8))
        >>> _ = clustered.fit(x, x[:, :4], verbose=0)
        >>> len(np.unique(tfmot.clustering.keras.strip_clustering(clustered).get_layer("out").kernel))
        5
    """
    tell_difference("cluster_weights", _DIFFERENCE)
    own: dict[str, Any] = dict(kwargs)
    names = ("preserve_sparsity", "cluster_per_channel", "cluster_gradient_aggregation")
    check_keywords("cluster_weights", cluster_weights, kwargs, names)
    zero = bool(own.pop("preserve_sparsity", False))
    per_channel = bool(own.pop("cluster_per_channel", False))
    how = GradientAggregation(own.pop("cluster_gradient_aggregation", GradientAggregation.SUM))
    config = ClusterConfig(
        number_of_clusters=_checked(number_of_clusters, zero), centroids_init=_method(cluster_centroids_init),
        preserve_sparsity=zero, per_channel=per_channel,
        gradient_aggregation="average" if how is GradientAggregation.AVG else "sum",
    )

    def of_layer(layer: keras.Layer) -> keras.Layer:
        return ClusterWeights(layer, config=config, **own)

    def wrap(layer: keras.Layer, chains: Sequence[Chain], activations: ActivationHook | None) -> ClusterWeights:
        return ClusterWeights.of_model(layer, chains, activations, config)

    def of_model(model: keras.Model) -> keras.Model:
        if is_unbuilt(model):
            return on_unbuilt(model, of_layer, _TAKES)
        check_built_model(model)
        result = compress(model, lambda path, layer, chains: codebooks(path, layer, chains, config), wrap=wrap)
        if not has_transform(result, Codebook):
            text = f"model '{model.name}' has no weight that is clustered; tg.summary(model) says why for each layer."
            warnings.warn(text, stacklevel=4)
        return result

    result: L = on_any(to_cluster, of_layer, of_model, _TAKES)
    return result


def _checked(number: int, zero: bool) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise InvalidValueError(f"number_of_clusters must be an integer. Given: {type(number).__name__}.")
    if number <= 1 + zero:
        raise InvalidValueError(f"number_of_clusters must be greater than {1 + zero}. Given: {number}.")
    return number


def _method(init: CentroidInitialization | str) -> Initialization:
    try:
        return METHODS[CentroidInitialization(init)]
    except ValueError as error:
        expected = ", ".join(map(str, METHODS))
        text = f"Cluster centroid initialization {init} not supported. Expected one of {expected}."
        raise InvalidValueError(text) from error


class ClusteringSummaries(TrainingBoard):
    """Losses, and values and sizes of the clusters, of each epoch for TensorBoard; see :class:`tfgreen.TrainingBoard`.

    Args:
        log_dir: Folder for the event files.
        cluster_update_freq: ``"epoch"``; what else TFMOT takes is written once per epoch too.
        kwargs: Arguments of ``keras.callbacks.TensorBoard``, of which there is no need.

    Raises:
        TypeError, ValueError: ``log_dir`` is no path, or an argument is unknown.
    """

    def __init__(self, log_dir: FilePath = "logs", cluster_update_freq: str | int = "epoch", **kwargs: object) -> None:
        check_board_keywords("ClusteringSummaries", kwargs, ("log_dir", "cluster_update_freq"))
        super().__init__(log_dir)


def cluster_scope() -> contextlib.AbstractContextManager[None]:
    """A context in which clustered models load; their classes are known to Keras without it."""
    return keras.saving.custom_object_scope(wrapped_by_tfmot("ClusterWeights"))


def strip_clustering(model: L) -> L:
    """Return a copy of a model, or the layer in a wrapper, with the shared values as weights.

    What else a model has stays: masks, and the ranges of one that is trained to be quantized.
    """
    result: L = stripped(model, Codebook)
    return result
