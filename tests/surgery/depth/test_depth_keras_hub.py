"""Shallow copies of every family of KerasHub's transformers: they compute, save and load."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfgreen as tg
from tests.surgery.cases import outputs, randomized

hub = pytest.importorskip("keras_hub").models

TEXT = {"vocabulary_size": 30, "hidden_dim": 16, "intermediate_dim": 32}
SHORT = {**TEXT, "num_heads": 2, "max_sequence_length": 8}
ELECTRA = {**{name: value for name, value in SHORT.items() if name != "vocabulary_size"}, "vocab_size": 30}
VIT = {"image_shape": (8, 8, 3), "patch_size": (4, 4), "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
GROUPED = {**TEXT, "num_query_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
TASK = {"num_classes": 3, "preprocessor": None}

FAMILIES = {
    "bert": lambda n: hub.BertTextClassifier(hub.BertBackbone(**SHORT, num_layers=n), **TASK),
    "distilbert": lambda n: hub.DistilBertTextClassifier(hub.DistilBertBackbone(**SHORT, num_layers=n), **TASK),
    "roberta": lambda n: hub.RobertaTextClassifier(hub.RobertaBackbone(**SHORT, num_layers=n), **TASK),
    "albert": lambda n: hub.AlbertTextClassifier(hub.AlbertBackbone(**SHORT, embedding_dim=8, num_layers=n), **TASK),
    "electra": lambda n: hub.ElectraBackbone(**ELECTRA, embedding_dim=16, num_layers=n),
    "deberta": lambda n: hub.DebertaV3Backbone(**SHORT, bucket_size=8, num_layers=n),
    "gpt2": lambda n: hub.GPT2CausalLM(hub.GPT2Backbone(**SHORT, num_layers=n), preprocessor=None),
    "gemma": lambda n: hub.GemmaCausalLM(hub.GemmaBackbone(**GROUPED, num_layers=n), preprocessor=None),
    "t5": lambda n: hub.T5Backbone(**TEXT, num_heads=2, num_layers=n),
    "vit": lambda n: hub.ViTImageClassifier(hub.ViTBackbone(**VIT, num_layers=n), **TASK),
}


def sample(model: keras.Model) -> dict[str, np.ndarray]:
    rng, x = np.random.default_rng(0), {}
    for tensor in model.inputs:
        shape = (2, *(size or 6 for size in tensor.shape[1:]))
        is_mask, is_float = "padding" in tensor.name, tensor.dtype.startswith("float")
        values = np.ones(shape) if is_mask else rng.normal(size=shape) if is_float else rng.integers(0, 2, shape)
        x[tensor.name] = values.astype(tensor.dtype)
    return x


@pytest.mark.filterwarnings("ignore::UserWarning:keras.*")  # masks that T5 drops, optimizers that were never built
@pytest.mark.parametrize("lora", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES])
def test_it_is_what_the_family_makes_of_fewer_layers(name, lora, tmp_path):
    model, kept = FAMILIES[name](3), [0, 2]
    if lora:
        getattr(model, "backbone", model).enable_lora(2)
    randomized(model)
    before, x = model.get_weights(), sample(model)
    shallow = tg.shallow_copy(model, kept)
    assert type(shallow) is type(model)
    if not lora:
        expected = FAMILIES[name](2)
        expected.set_weights(shallow.get_weights())
        for a, b in zip(outputs(expected, x), outputs(shallow, x), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    shallow.save(tmp_path / "m.keras")
    for a, b in zip(outputs(keras.models.load_model(tmp_path / "m.keras"), x), outputs(shallow, x), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
