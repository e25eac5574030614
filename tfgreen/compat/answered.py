"""TFMOT's classes that rewrite models: they have no counterpart, and say when one is made what there is instead."""

from __future__ import annotations

import keras

from tfgreen.compat.told import raise_answer


class Answered:
    """Base of a class that cannot be made: its own words say what to do instead."""

    way = ""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise_answer(type(self).__name__, self.way)


class _GraphTransform(Answered):
    way = (
        "Replace layers with keras.models.clone_model(model, clone_function=...) before the model is quantized; "
        "tg.quantize needs no rewriting, as it places ranges where LiteRT rounds."
    )


class ModelTransformer(_GraphTransform):
    """Rewrites the layers of a model that match patterns."""

    def transform(self) -> tuple[keras.Model, dict[str, object]]:
        """The model and what is known of its layers."""
        raise_answer("ModelTransformer", self.way)


class LayerPattern(_GraphTransform):
    """A pattern of layers."""


class LayerNode(_GraphTransform):
    """A layer that a pattern has found."""


class Transform(_GraphTransform):
    """The replacement of what a pattern finds."""


class _LayoutTransform(Answered):
    way = "tg.quantize places ranges where LiteRT rounds, which {what}; give layers settings with layers={{...}}."
    what = ""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise_answer(type(self).__name__, self.way.format(what=self.what))


class ConcatTransform(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "gives what a Concatenate joins one range"


class ConcatTransform3Inputs(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "gives what a Concatenate joins one range"


class ConcatTransform4Inputs(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "gives what a Concatenate joins one range"


class ConcatTransform5Inputs(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "gives what a Concatenate joins one range"


class ConcatTransform6Inputs(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "gives what a Concatenate joins one range"


class Conv2DBatchNormActivationQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a batch normalization as part of the layer before it"


class Conv2DBatchNormQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a batch normalization as part of the layer before it"


class Conv2DBatchNormReLUQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a batch normalization as part of the layer before it"


class Conv2DReshapeBatchNormActivationQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a batch normalization as part of the layer before it"


class Conv2DReshapeBatchNormQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a batch normalization as part of the layer before it"


class Conv2DReshapeBatchNormReLUQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a batch normalization as part of the layer before it"


class InputLayerQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "includes the inputs of a model"


class LayerReLUQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a ReLU as part of the layer before it"


class LayerReluActivationQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "takes a ReLU as part of the layer before it"


class SeparableConv1DQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "knows separable convolutions as the two operators that they become"


class SeparableConvQuantize(_LayoutTransform):
    """One of TFMOT's layout transforms."""

    what = "knows separable convolutions as the two operators that they become"
