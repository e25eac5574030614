"""TFMOT's ``experimental``."""

from tfgreen.compat.experimental import combine as combine
from tfgreen.compat.unknown import unknown_names as _unknown_names

__getattr__ = _unknown_names(__name__)
