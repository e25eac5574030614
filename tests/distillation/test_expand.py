from __future__ import annotations

import keras
import pytest
from keras import layers

import tfgreen as tg
from tests.distillation.transformers import transformer
from tests.surgery.depth.cases import encoder
from tfgreen.distillation.expand import by_layer, by_output


def test_a_loss_for_each_output():
    loss = tg.FeatureDistillation(["mse", None, "cosine"])
    assert [(part.output, part.loss) for part in by_output(loss, ["a", "b", "c"])] == [("a", "mse"), ("c", "cosine")]
    with pytest.raises(ValueError, match="one for each of 2 outputs"):
        by_output(loss, ["a", "b"])


def test_numbers_are_those_of_repeated_layers():
    loss = tg.FeatureDistillation("cosine", layer_map={0: 0, 3: 1})
    parts = by_layer(loss, transformer(8), transformer(8, blocks=2))
    assert [(part.teacher_layer_name, part.student_layer_name) for part in parts] == [
        ("block_0", "block_0"), ("block_3", "block_1"),
    ]
    assert {part.loss for part in parts} == {"cosine"} and {part.layer_map for part in parts} == {None}


def test_relations_are_losses_of_their_own():
    loss = tg.AttentionRelationDistillation(layer_map={3: 1}, relations=("key", "value"))
    parts = by_layer(loss, transformer(8), transformer(8, blocks=2))
    assert [part.relations for part in parts] == [("key",), ("value",)]


def test_of_a_block_of_several_calls_the_last_layer_or_the_attention_is_meant():
    teacher, student = encoder(4), encoder(2)
    (part,) = by_layer(tg.FeatureDistillation(layer_map={3: 1}), teacher, student)
    assert (part.teacher_layer_name, part.student_layer_name) == ("last_3", "last_1")
    (part,) = by_layer(tg.AttentionMapDistillation(layer_map={3: 1}), teacher, student)
    assert (part.teacher_layer_name, part.student_layer_name) == ("attention_3", "attention_1")
    with pytest.raises(ValueError, match="layer 1 ends in a raw operation.*Name the layers"):
        by_layer(tg.FeatureDistillation(layer_map={1: 1}), encoder(2, norm_first=True), student)


def test_several_stacks_and_none_are_said():
    x = keras.Input((8,))
    y = x
    for number in range(2):
        y = layers.Dense(8, "relu", name=f"first_{number}")(y)
    y = layers.LayerNormalization()(y)
    for number in range(2):
        y = layers.Dense(8, "relu", name=f"second_{number}")(y)
    with pytest.raises(ValueError, match="names of layers, as several.*first_0.*second_0"):
        by_layer(tg.FeatureDistillation(layer_map={0: 0}), keras.Model(x, y), transformer(8))
    plain = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    with pytest.raises(ValueError, match="repeats no blocks"):
        by_layer(tg.FeatureDistillation(layer_map={0: 0}), plain, plain)
