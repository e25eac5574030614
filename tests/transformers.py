"""Transformers of two layers and random weights: Keras's own attention, and the families of KerasHub, as tasks where
there are some. Tasks come compiled by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

LENGTH, WORDS, CLASSES = 16, 60, 3
_TEXT = {"vocabulary_size": WORDS, "num_layers": 2, "hidden_dim": 64, "intermediate_dim": 128}
_SHORT = {**_TEXT, "num_heads": 4, "max_sequence_length": LENGTH}
_GROUPED = {**_TEXT, "num_query_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
_ELECTRA = {**{name: value for name, value in _SHORT.items() if name != "vocabulary_size"}, "vocab_size": WORDS}
_IMAGE = {"image_shape": (16, 16, 3), "patch_size": (4, 4), "num_layers": 2, "num_heads": 4, "hidden_dim": 64}
_SORTS = {"num_classes": CLASSES, "preprocessor": None}


def plain() -> keras.Model:
    tokens = keras.Input((LENGTH,), dtype="int32", name="token_ids")
    x = layers.Embedding(WORDS, 64)(tokens)
    for _ in range(2):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 16)(x, x))
        x = layers.LayerNormalization()(x + layers.Dense(64)(layers.Dense(128, activation="gelu")(x)))
    return keras.Model(tokens, layers.Dense(CLASSES)(layers.GlobalAveragePooling1D()(x)))


def _hub(build: Callable[[Any], keras.Model]) -> Callable[[], keras.Model]:
    return lambda: build(pytest.importorskip("keras_hub").models)


FAMILIES: Mapping[str, Callable[[], keras.Model]] = {
    "plain": plain,
    "bert": _hub(lambda hub: hub.BertTextClassifier(hub.BertBackbone(**_SHORT), **_SORTS)),
    "distilbert": _hub(lambda hub: hub.DistilBertTextClassifier(hub.DistilBertBackbone(**_SHORT), **_SORTS)),
    "roberta": _hub(lambda hub: hub.RobertaTextClassifier(hub.RobertaBackbone(**_SHORT), **_SORTS)),
    "albert": _hub(lambda hub: hub.AlbertTextClassifier(hub.AlbertBackbone(**_SHORT, embedding_dim=32), **_SORTS)),
    "electra": _hub(lambda hub: hub.ElectraBackbone(**_ELECTRA, embedding_dim=64)),
    "deberta": _hub(
        lambda hub: hub.DebertaV3TextClassifier(hub.DebertaV3Backbone(**_SHORT, bucket_size=8), **_SORTS)
    ),
    "gpt2": _hub(lambda hub: hub.GPT2CausalLM(hub.GPT2Backbone(**_SHORT), preprocessor=None)),
    "gemma": _hub(lambda hub: hub.GemmaCausalLM(hub.GemmaBackbone(**_GROUPED), preprocessor=None)),
    "t5": _hub(lambda hub: hub.T5Backbone(**_TEXT, num_heads=4)),
    "vit": _hub(lambda hub: hub.ViTImageClassifier(hub.ViTBackbone(**_IMAGE, mlp_dim=128), **_SORTS)),
}

_LARGER = {"vocabulary_size": 500, "num_layers": 2, "hidden_dim": 64, "intermediate_dim": 128}
_EXPERTS = {**_LARGER, "num_query_heads": 4, "num_key_value_heads": 2, "num_experts": 4, "top_k": 2}
LONG: Mapping[str, Callable[[], keras.Model]] = {  # of which more than kernels is large
    "t5": _hub(lambda hub: hub.T5Backbone(**_LARGER, num_heads=8)),
    "mixtral": _hub(lambda hub: hub.MixtralBackbone(**_EXPERTS)),
    "gpt_oss": _hub(lambda hub: hub.GptOssBackbone(**_EXPERTS, head_dim=16)),
}


def samples(model: keras.Model, count: int = 16) -> dict[str, np.ndarray]:
    """Inputs at random by name, with masks of different lengths."""
    rng, x = np.random.default_rng(0), {}
    for tensor in model.inputs:
        shape = (count, *(size or LENGTH for size in tensor.shape[1:]))
        if "padding" in tensor.name:
            ends = rng.integers(LENGTH // 2, LENGTH + 1, (count, 1))
            x[tensor.name] = (np.arange(LENGTH) < ends).astype(tensor.dtype)
        elif tensor.dtype.startswith("float"):
            x[tensor.name] = rng.normal(size=shape).astype(tensor.dtype)
        else:
            x[tensor.name] = rng.integers(0, 2 if "segment" in tensor.name else WORDS, shape).astype(tensor.dtype)
    return x


def length_of(name: str) -> dict[str, int]:
    """The option of a conversion of a family of which sequences have an open length."""
    return {} if name in ("plain", "vit") else {"sequence_length": LENGTH}
