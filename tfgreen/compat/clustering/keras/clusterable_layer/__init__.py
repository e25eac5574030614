"""TFMOT's ``clustering.keras.clusterable_layer``."""

from tfgreen.compat.clusterable import ClusterableLayer as ClusterableLayer
