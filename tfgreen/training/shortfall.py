"""shortfall: whether the masks of a model have come to the end of their schedules."""

from __future__ import annotations

import keras

from tfgreen.transforms.channel_mask import ChannelMask
from tfgreen.transforms.compressed import chained_weights
from tfgreen.transforms.mask import Mask


def shortfall(model: keras.Model) -> str:
    """How far the masks of a model are from the end of their schedules, as a sentence; "" if none is known to be.

    Example:
        >>> import tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> shortfall(tg.prune(model, schedule=tg.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)))
        'The masks hold a sparsity of 0.0 % after 0 training steps; their schedule goes on to 80.0 % at step 1000.'
    """
    transforms = [item for _, _, weight in chained_weights(model) for item in weight.chain.transforms]
    masks = [mask for mask in transforms if isinstance(mask, Mask) and mask.scheduled and mask.criterion != "threshold"]
    if not masks:
        return ""
    steps = {id(mask): int(keras.ops.convert_to_numpy(mask.step)) for mask in masks}
    goals = [(mask, goal) for mask in masks if mask.schedule is not None and (goal := mask.schedule.goal) is not None]
    late = [(goal, steps[id(mask)]) for mask, goal in goals if steps[id(mask)] < goal[0]]
    wanted = len(goals) < len(masks) or any(goal[1] for _, goal in goals)
    dense = wanted and not any(mask.sparsity for mask in masks)
    if not late and not dense:
        return ""
    step = min(step for _, step in late) if late else min(steps.values())
    zeros, size = map(sum, zip(*(mask.progress for mask in masks)))
    share = f"{100 * zeros / max(size, 1):.1f} %"
    is_channels = any(isinstance(mask, ChannelMask) for mask in masks)
    what = f"{share} of the weights of the channels that go" if is_channels else f"a sparsity of {share}"
    held = f"The masks hold {what} after {step} training steps"
    if not late:
        return f"{held}; no update of their schedule has been run."
    (end, sparsity), _ = max(late)
    rest = "the rest goes by" if is_channels else f"their schedule goes on to {100 * sparsity:.1f} % at"
    return f"{held}; {rest} step {end}."
