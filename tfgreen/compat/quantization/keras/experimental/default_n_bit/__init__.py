"""TFMOT's ``quantization.keras.experimental.default_n_bit``."""

from tfgreen.compat.quantization.keras.experimental.default_n_bit import (
    default_n_bit_transforms as default_n_bit_transforms,
)
from tfgreen.compat.quantize_config import DefaultNBitQuantizeLayoutTransform as DefaultNBitQuantizeLayoutTransform
from tfgreen.compat.quantize_config import DefaultNBitQuantizeRegistry as DefaultNBitQuantizeRegistry
from tfgreen.compat.quantize_config import DefaultNBitQuantizeScheme as DefaultNBitQuantizeScheme
