"""TFMOT's ``sparsity``."""

from tfgreen.compat.sparsity import keras as keras
