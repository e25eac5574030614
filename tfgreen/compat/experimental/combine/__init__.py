"""TFMOT's ``experimental.combine``: schemes that keep what was won before."""

from tfgreen.compat.quantize import strip_clustering_cqat as strip_clustering_cqat
from tfgreen.compat.quantize_config import (
    Default8BitClusterPreserveQuantizeScheme as Default8BitClusterPreserveQuantizeScheme,
)
from tfgreen.compat.quantize_config import (
    Default8BitPrunePreserveQuantizeScheme as Default8BitPrunePreserveQuantizeScheme,
)
