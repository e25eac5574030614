"""TFMOT's ``quantization.keras``: quantization-aware training."""

from tfgreen.compat.annotate import quantize_annotate_layer as quantize_annotate_layer
from tfgreen.compat.annotate import quantize_annotate_model as quantize_annotate_model
from tfgreen.compat.quantization.keras import collab_opts as collab_opts
from tfgreen.compat.quantization.keras import default_8bit as default_8bit
from tfgreen.compat.quantization.keras import experimental as experimental
from tfgreen.compat.quantization.keras import graph_transformations as graph_transformations
from tfgreen.compat.quantization.keras import quantizers as quantizers
from tfgreen.compat.quantize import QuantizeWrapper as QuantizeWrapper
from tfgreen.compat.quantize import QuantizeWrapperV2 as QuantizeWrapperV2
from tfgreen.compat.quantize import fix_input_output_range as fix_input_output_range
from tfgreen.compat.quantize import quantize_apply as quantize_apply
from tfgreen.compat.quantize import quantize_model as quantize_model
from tfgreen.compat.quantize import quantize_scope as quantize_scope
from tfgreen.compat.quantize import remove_input_range as remove_input_range
from tfgreen.compat.quantize_config import QuantizeConfig as QuantizeConfig
from tfgreen.compat.quantize_config import QuantizeLayoutTransform as QuantizeLayoutTransform
from tfgreen.compat.quantize_config import QuantizeRegistry as QuantizeRegistry
from tfgreen.compat.quantize_config import QuantizeScheme as QuantizeScheme
