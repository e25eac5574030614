"""TFMOT's rewriting of models answers with what there is instead."""

from __future__ import annotations

import pytest

from tfgreen.compat import answered, quantization

qk = quantization.keras
LAYOUT = [qk.default_8bit.default_8bit_transforms, qk.experimental.default_n_bit.default_n_bit_transforms]
CLASSES = [getattr(module, name) for module in LAYOUT for name in dir(module) if name[0].isupper()]


@pytest.mark.parametrize("cls", sorted(set(CLASSES), key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__)
def test_layout_transforms_say_what_does_their_work(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} of TFMOT has no counterpart.*tg.quantize places ranges"):
        cls()


def test_graph_transforms_say_how_layers_are_replaced():
    class Mine(qk.graph_transformations.transforms.Transform):
        pass

    patterns, transformer = qk.graph_transformations.transforms, qk.graph_transformations.model_transformer
    for cls in (Mine, patterns.LayerPattern, patterns.LayerNode, transformer.ModelTransformer):
        with pytest.raises(ValueError, match="clone_model"):
            cls("Dense")
    with pytest.raises(ValueError, match="clone_model"):
        answered.ModelTransformer.transform(object.__new__(answered.ModelTransformer))
