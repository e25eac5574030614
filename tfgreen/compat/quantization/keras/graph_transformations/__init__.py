"""TFMOT's ``quantization.keras.graph_transformations``."""

from tfgreen.compat.quantization.keras.graph_transformations import model_transformer as model_transformer
from tfgreen.compat.quantization.keras.graph_transformations import transforms as transforms
