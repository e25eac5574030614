"""TFMOT's ``quantization``."""

from tfgreen.compat.quantization import keras as keras
