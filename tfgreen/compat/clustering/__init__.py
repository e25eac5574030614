"""TFMOT's ``clustering``."""

from tfgreen.compat.clustering import keras as keras
