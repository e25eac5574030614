"""ClusterConfig: the settings of clustering, checked when they are made."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping

from tfgreen.config import Config
from tfgreen.errors import invalid_type, invalid_value
from tfgreen.techniques.patterns import check_overrides
from tfgreen.transforms.codebook import AGGREGATIONS
from tfgreen.transforms.kmeans import METHODS

_MOST = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig(Config):
    """How to cluster.

    Attributes:
        number_of_clusters: How many different values a weight is to have, 2 to 65,536; 3 or more where zero is to be
            one of them.
        centroids_init: How these values are chosen from the weight: ``"kmeans_plus_plus"`` (with Lloyd iterations),
            ``"linear"``, ``"random"`` or ``"density_based"``; see :func:`tfgreen.transforms.kmeans.initial_centroids`.
        per_channel: Whether each output channel gets values of its own, so many for each.
        preserve_sparsity: Whether zero is to be one of the values, and weights that are zero stay so. None: where the
            weight is pruned or has zeros.
        gradient_aggregation: The gradient of a value, from those of its weights: ``"average"``, with which a learning
            rate means the same for clusters of any size, or ``"sum"``, the exact gradient, as TFMOT does; Adam and its
            like make little difference between the two.
        frequency: Training steps between two refreshes of which weight has which value; more than a few unsettle the
            training (see ``tfgreen/transforms/codebook.py``).
        fold_batch_norm: First fold each batch normalization into the convolution or dense layer before it
            (:func:`tfgreen.model.fold.fold_batch_norm`). The converter does so too, after training, and multiplies each
            output channel by a factor of its own; the values in a float ``.tflite`` then are ``number_of_clusters`` for
            each channel and no longer for the kernel. Off by default, because a network trains better with its batch
            normalization; switch it on for a trained model of which the file is to keep the codebook.
        seed: For ``"kmeans_plus_plus"`` and ``"random"``.
        layers: Name pattern (``"block*/conv"``) -> another ``ClusterConfig`` for the layers it matches, or None to
            leave them out. The first pattern that matches counts. Overrides do not nest.
        extra_weights: Patterns of weights (``"depthwise*/kernel"``, ``"*/bias"``) to cluster besides those of
            ``tfgreen/model/support.py``.

    Raises:
        ValueError, TypeError: A setting is out of range or of another type.

    Example:
        >>> import tfgreen as tg
        >>> config = tg.ClusterConfig(number_of_clusters=16, layers={"head": None})
        >>> tg.ClusterConfig.from_dict(config.to_dict()) == config
        True
    """

    number_of_clusters: int
    centroids_init: str = "kmeans_plus_plus"
    per_channel: bool = False
    preserve_sparsity: bool | None = None
    gradient_aggregation: str = "average"
    frequency: int = 3
    fold_batch_norm: bool = False
    seed: int = 0
    layers: Mapping[str, ClusterConfig | None] = dataclasses.field(default_factory=dict)
    extra_weights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_overrides(self)
        object.__setattr__(self, "layers", dict(self.layers))
        object.__setattr__(self, "extra_weights", tuple(self.extra_weights))
        for name, least in (("number_of_clusters", 2), ("frequency", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise invalid_type(name, expected="an integer", received=value)
            if value < least:
                raise invalid_value(name, expected=f"an integer >= {least}", received=value)
        if self.number_of_clusters > _MOST:
            raise invalid_value("number_of_clusters", expected=f"at most {_MOST}", received=self.number_of_clusters)
        if self.preserve_sparsity and self.number_of_clusters < 3:
            raise invalid_value(
                "number_of_clusters", expected="an integer >= 3 with preserve_sparsity=True, because one of them is 0",
                received=self.number_of_clusters,
            )  # fmt: skip
        for name, allowed in (("centroids_init", METHODS), ("gradient_aggregation", AGGREGATIONS)):
            if getattr(self, name) not in allowed:
                raise invalid_value(name, expected=f"one of {allowed}", received=repr(getattr(self, name)))
        flags = {"per_channel": (bool,), "fold_batch_norm": (bool,), "preserve_sparsity": (bool, type(None))}
        for name, types in flags.items():
            if not isinstance(getattr(self, name), types):
                raise invalid_type(name, expected="True or False", received=getattr(self, name))
