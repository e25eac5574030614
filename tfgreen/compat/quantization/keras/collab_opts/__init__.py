"""TFMOT's ``quantization.keras.collab_opts``."""

from tfgreen.compat.quantize_config import (
    Default8BitPrunePreserveQuantizeScheme as Default8BitPrunePreserveQuantizeScheme,
)
