"""TFMOT's ``experimental``."""

from tfgreen.compat.experimental import combine as combine
