"""TFMOT's ``quantization.keras.default_8bit``."""

from tfgreen.compat.quantization.keras.default_8bit import default_8bit_transforms as default_8bit_transforms
from tfgreen.compat.quantize_config import Default8BitQuantizeLayoutTransform as Default8BitQuantizeLayoutTransform
from tfgreen.compat.quantize_config import Default8BitQuantizeRegistry as Default8BitQuantizeRegistry
from tfgreen.compat.quantize_config import Default8BitQuantizeScheme as Default8BitQuantizeScheme
