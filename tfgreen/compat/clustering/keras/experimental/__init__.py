"""TFMOT's ``clustering.keras.experimental``, which it documents and does not fill."""

from tfgreen.compat import cluster as cluster  # of TFMOT's private path, which its PCQAT tutorial imports
from tfgreen.compat.cluster import cluster_weights as cluster_weights
