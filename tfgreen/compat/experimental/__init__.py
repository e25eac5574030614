"""TFMOT's ``experimental``."""

from tfgreen.compat.experimental import combine as combine
from tfgreen.compat.unknown import answer_unknown_names as _answer_unknown_names

_answer_unknown_names(__name__)
