"""TFMOT's ``clustering``."""

from tfgreen.compat.clustering import keras as keras
from tfgreen.compat.unknown import answer_unknown_names as _answer_unknown_names

_answer_unknown_names(__name__)
