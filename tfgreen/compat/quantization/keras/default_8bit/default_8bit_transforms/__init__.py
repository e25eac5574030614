"""TFMOT's layout transforms, each of which says when it is made what there is in its place."""

from tfgreen.compat.answered import ConcatTransform as ConcatTransform
from tfgreen.compat.answered import ConcatTransform3Inputs as ConcatTransform3Inputs
from tfgreen.compat.answered import ConcatTransform4Inputs as ConcatTransform4Inputs
from tfgreen.compat.answered import ConcatTransform5Inputs as ConcatTransform5Inputs
from tfgreen.compat.answered import ConcatTransform6Inputs as ConcatTransform6Inputs
from tfgreen.compat.answered import Conv2DBatchNormActivationQuantize as Conv2DBatchNormActivationQuantize
from tfgreen.compat.answered import Conv2DBatchNormQuantize as Conv2DBatchNormQuantize
from tfgreen.compat.answered import Conv2DBatchNormReLUQuantize as Conv2DBatchNormReLUQuantize
from tfgreen.compat.answered import Conv2DReshapeBatchNormActivationQuantize as Conv2DReshapeBatchNormActivationQuantize
from tfgreen.compat.answered import Conv2DReshapeBatchNormQuantize as Conv2DReshapeBatchNormQuantize
from tfgreen.compat.answered import Conv2DReshapeBatchNormReLUQuantize as Conv2DReshapeBatchNormReLUQuantize
from tfgreen.compat.answered import InputLayerQuantize as InputLayerQuantize
from tfgreen.compat.answered import LayerReluActivationQuantize as LayerReluActivationQuantize
from tfgreen.compat.answered import LayerReLUQuantize as LayerReLUQuantize
from tfgreen.compat.answered import SeparableConv1DQuantize as SeparableConv1DQuantize
from tfgreen.compat.answered import SeparableConvQuantize as SeparableConvQuantize
