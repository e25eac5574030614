"""TFMOT's graph patterns, each of which says when it is made what there is in its place."""

from tfgreen.compat.answered import LayerNode as LayerNode
from tfgreen.compat.answered import LayerPattern as LayerPattern
from tfgreen.compat.answered import Transform as Transform
