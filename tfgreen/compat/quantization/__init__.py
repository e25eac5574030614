"""TFMOT's ``quantization``."""

from tfgreen.compat.quantization import keras as keras
from tfgreen.compat.unknown import unknown_names as _unknown_names

__getattr__ = _unknown_names(__name__)
