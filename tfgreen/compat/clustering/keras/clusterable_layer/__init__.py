"""TFMOT's ``clustering.keras.clusterable_layer``."""

from tfgreen.compat.cluster import ClusterableLayer as ClusterableLayer
