"""TFMOT's ``clustering.keras``: weights that share values."""

from tfgreen.compat.algorithm import ClusteringAlgorithm as ClusteringAlgorithm
from tfgreen.compat.cluster import ClusteringSummaries as ClusteringSummaries
from tfgreen.compat.cluster import cluster_scope as cluster_scope
from tfgreen.compat.cluster import cluster_weights as cluster_weights
from tfgreen.compat.cluster import strip_clustering as strip_clustering
from tfgreen.compat.clusterable import CentroidInitialization as CentroidInitialization
from tfgreen.compat.clusterable import ClusterableLayer as ClusterableLayer
from tfgreen.compat.clustering.keras import clusterable_layer as clusterable_layer
from tfgreen.compat.clustering.keras import experimental as experimental
