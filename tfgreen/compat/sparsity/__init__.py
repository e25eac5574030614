"""TFMOT's ``sparsity``."""

from tfgreen.compat.sparsity import keras as keras
from tfgreen.compat.unknown import unknown_names as _unknown_names

__getattr__ = _unknown_names(__name__)
