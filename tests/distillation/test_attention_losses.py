"""Losses between attention layers, against NumPy in float64, and what they read of models."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfgreen as tg
from tests.distillation.transformers import LENGTH, batch, loss_of, transformer
from tests.surgery.cases import randomized


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.sum(np.where(p > 0, p * (np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(q, 1e-30))), 0), -1)


def mean_over(mask: np.ndarray, values: np.ndarray) -> float:
    return float((values * mask).sum() / mask.sum())


def hidden(model: keras.Model, x: dict[str, np.ndarray], block: int) -> np.ndarray:
    inputs = x if isinstance(model.input, dict) else x["token_ids"]
    made = keras.tree.flatten(model.get_layer(f"block_{block}").input)[0]
    return np.asarray(keras.Model(model.input, made)(inputs))


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"causal": True}], ids=str)
def test_maps_are_those_that_the_layers_compute(settings):
    keras.utils.set_random_seed(0)
    teacher, student = randomized(transformer(8, 2, **settings)), randomized(transformer(12, 2, 2, **settings), 1)
    x = batch()
    mask = x["padding_mask"]
    allowed = mask[:, None, :].astype(bool) & np.ones((1, LENGTH, 1), bool)
    if settings.get("causal"):
        allowed = allowed & np.tril(np.ones((LENGTH, LENGTH), bool))
    maps = []
    for model, block in ((teacher, 3), (student, 1)):
        attention, inputs = model.get_layer(f"block_{block}").attention, hidden(model, x, block)
        scores = attention(inputs, inputs, attention_mask=allowed, return_attention_scores=True)[1]
        maps.append(np.asarray(scores, np.float64))
    expected = mean_over(mask, divergence(*maps).mean(1))
    loss = tg.AttentionMapDistillation(layer_map={3: 1})
    got = loss_of(tg.Distiller(teacher, student, loss, student_loss_weight=0), x)
    assert got == pytest.approx(expected, rel=1e-4) and got > 1e-4


def test_relations_are_those_of_the_projections_with_padding_left_out():
    keras.utils.set_random_seed(0)
    teacher, student, x = randomized(transformer(8, 2)), randomized(transformer(12, 3, 2), 1), batch()
    mask, total = x["padding_mask"], 0.0
    for part in ("query", "key", "value"):
        relations = []
        for model, block in ((teacher, 2), (student, 1)):
            dense = getattr(model.get_layer(f"block_{block}").attention, f"{part}_dense")
            made = np.asarray(dense(hidden(model, x, block)), np.float64).reshape(len(mask), LENGTH, 4, -1)
            products = np.einsum("bqhd,bkhd->bhqk", made, made) / np.sqrt(made.shape[-1])
            relations.append(softmax(np.where(mask[:, None, None, :] > 0, products, -1e9)))
        total += mean_over(mask, divergence(*relations).mean(1)) / 3
    loss = tg.AttentionRelationDistillation(layer_map={2: 1}, relation_heads=4)
    got = loss_of(tg.Distiller(teacher, student, loss, student_loss_weight=0), x)
    assert got == pytest.approx(total, rel=1e-4) and got > 1e-5


def test_maps_of_other_numbers_of_heads_are_compared_by_their_means():
    a = softmax(np.random.default_rng(0).normal(size=(2, 4, 5, 5)))
    b = softmax(np.random.default_rng(1).normal(size=(2, 2, 5, 5)))
    got = tg.AttentionMapDistillation("a", "b").values(a.astype("float32"), b.astype("float32"))
    np.testing.assert_allclose(got, divergence(a.mean(1), b.mean(1)), rtol=1e-4)


MAPPED = [
    tg.AttentionMapDistillation(layer_map={1: 0, 3: 1}),
    tg.AttentionRelationDistillation(layer_map={3: 1}),
    tg.FeatureDistillation(layer_map={1: 0, 3: 1}),
]


CASES = [(MAPPED[2], "input"), *[(loss, "input") for loss in MAPPED[:2]], (MAPPED[0], "keras")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "masked"),
    [pytest.param(*case, marks=[pytest.mark.slow] if number else []) for number, case in enumerate(CASES)],
    ids=[f"{type(loss).__name__}-{masked}" for loss, masked in CASES],
)
def test_what_is_padding_changes_nothing_and_training_makes_the_loss_smaller(loss, masked, tmp_path):
    keras.utils.set_random_seed(0)
    teacher, student = transformer(8, 2, masked=masked), transformer(12, 4, 2, masked=masked)
    x = batch(8)
    padded = {**x, "token_ids": np.where(x["padding_mask"] > 0, x["token_ids"], 0)}
    other = {**x, "token_ids": np.where(x["padding_mask"] > 0, x["token_ids"], 0 if masked == "keras" else 7)}
    inputs, others = (pair if masked == "input" else pair["token_ids"] for pair in (padded, other))
    losses, weights = [loss, tg.LogitsDistillation()], [1.0, 1e-3]  # the second trains all that the first does not see
    distiller = tg.Distiller(teacher, student, losses, weights, student_loss_weight=0)
    before = loss_of(distiller, inputs)
    assert before == pytest.approx(loss_of(distiller, others), rel=1e-5)
    distiller.compile(keras.optimizers.Adam(0.03))
    distiller.fit(inputs, epochs=6, verbose=0)
    distiller.save(tmp_path / "distiller.keras")
    after = loss_of(distiller, inputs)
    assert after < 0.7 * before
    again = keras.models.load_model(tmp_path / "distiller.keras")
    assert loss_of(again, inputs) == pytest.approx(after, rel=1e-4)


def test_a_name_may_be_that_of_the_attention_layer_or_of_what_holds_it():
    teacher, student, x = transformer(8, 2), transformer(8, 2, 2), batch()
    names = [("block_1", "block_0"), ("block_1/attention", "block_0"), ("block_1@0", "block_0/attention")]
    losses = [tg.AttentionRelationDistillation(*pair) for pair in names]
    values = [loss_of(tg.Distiller(teacher, student, loss, student_loss_weight=0), x) for loss in losses]
    assert values[0] == pytest.approx(values[1]) == pytest.approx(values[2])


@pytest.mark.parametrize(
    ("match", "loss"),
    [
        ("layer_map, teacher.*numbers from 0 to 3.*received 4", tg.AttentionMapDistillation(layer_map={4: 0})),
        ("layer_map, student.*numbers from 0 to 1.*received 2", tg.FeatureDistillation(layer_map={0: 2})),
        ("layer_map, student.*received -1", tg.FeatureDistillation(layer_map={0: -1})),
        ("teacher_layer_name.*block_9", tg.FeatureDistillation(layer_map={"block_9": 0})),
        ("an attention layer, or one in it, received none", tg.AttentionMapDistillation("table", "block_0")),
        (
            "relation_heads that divide both widths, 8 and 12.*received 8",
            tg.AttentionRelationDistillation("block_0", "block_0", relation_heads=8),
        ),
        ("mask.*of .*padding_mask.*received 'maks'", tg.FeatureDistillation(layer_map={0: 0}, mask="maks")),
    ],
)
def test_what_does_not_fit_is_said(match, loss):
    with pytest.raises(ValueError, match=match):
        tg.Distiller(transformer(8, 2), transformer(12, 2, 2), loss)


def test_attention_that_shows_no_probabilities_is_said():
    class Attention(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj = (layers.Dense(8) for _ in range(3))

        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            scores = self.q_proj(x) @ keras.ops.transpose(self.k_proj(x), (0, 2, 1))
            return keras.ops.softmax(scores) @ self.v_proj(x)

    def model() -> keras.Model:
        x = keras.Input((LENGTH, 8))
        return keras.Model(x, Attention()(x))

    names = "attention", "attention"
    teacher, student = model(), model()
    teacher.layers[-1].name = student.layers[-1].name = "attention"
    with pytest.raises(ValueError, match="shows no probabilities.*AttentionRelationDistillation"):
        tg.Distiller(teacher, student, tg.AttentionMapDistillation(*names))
    x = np.random.default_rng(0).normal(size=(2, LENGTH, 8)).astype("float32")
    loss = tg.AttentionRelationDistillation(*names, relation_heads=2)
    assert loss_of(tg.Distiller(teacher, student, loss, student_loss_weight=0), x) > 0
