"""TFMOT's ``quantization.keras.experimental``."""

from tfgreen.compat.quantization.keras.experimental import default_n_bit as default_n_bit
