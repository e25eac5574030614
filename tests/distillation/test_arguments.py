from __future__ import annotations

import keras
import pytest

import tfgreen as tg
from tfgreen.distillation.arguments import checked_losses, checked_weights, shares_of


def test_losses_and_weights_are_checked():
    loss = tg.LogitsDistillation()
    assert checked_losses(loss) == checked_losses([loss]) == (loss,)
    assert checked_weights(None, 2) == (1.0, 1.0) and checked_weights([0, 2], 2) == (0, 2)
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 10)
    assert checked_weights((schedule,), 1) == (schedule,)
    with pytest.raises(ValueError, match="distillation_loss_weights, at step 10:.*>= 0, received -1"):
        checked_weights([keras.optimizers.schedules.PolynomialDecay(1.0, 10, -1.0)], 1)
    assert shares_of(None, 4) == (0.25,) * 4 and shares_of([3, 1], 2) == (0.75, 0.25)
    for weights in ([-1, 2], [0, 0], [1]):
        with pytest.raises(ValueError, match="teacher_weights"):
            shares_of(weights, 2)
    with pytest.raises(TypeError, match="teacher_weights: expected a number"):
        shares_of([schedule], 1)
