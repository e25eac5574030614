"""TFMOT's ``quantization.keras.experimental``."""

from tfgreen.compat.quantization.keras.experimental import default_n_bit as default_n_bit
from tfgreen.compat.unknown import unknown_names as _unknown_names

__getattr__ = _unknown_names(__name__)
