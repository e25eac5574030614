"""TFMOT's ``clustering.keras.experimental``, which it documents and does not fill."""

from tfgreen.compat.cluster import cluster_weights as cluster_weights
from tfgreen.compat.unknown import unknown_names as _unknown_names

__getattr__ = _unknown_names(__name__)
