"""TFMOT's graph rewriting, which says when it is made what there is in its place."""

from tfgreen.compat.answered import ModelTransformer as ModelTransformer
