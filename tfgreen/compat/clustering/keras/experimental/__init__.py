"""TFMOT's ``clustering.keras.experimental``, which it documents and does not fill."""

from tfgreen.compat.cluster import cluster_weights as cluster_weights
