"""TFMOT's ``quantization.keras.quantizers``."""

from tfgreen.compat.quantizers import AllValuesQuantizer as AllValuesQuantizer
from tfgreen.compat.quantizers import FixedQuantizer as FixedQuantizer
from tfgreen.compat.quantizers import LastValueQuantizer as LastValueQuantizer
from tfgreen.compat.quantizers import MovingAverageQuantizer as MovingAverageQuantizer
from tfgreen.compat.quantizers import Quantizer as Quantizer
