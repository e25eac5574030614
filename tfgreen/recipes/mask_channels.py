"""mask_channels: channels that go one after the other while the model trains; remove_masked_channels takes them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import keras
import numpy as np

from tfgreen.config import resolve_config
from tfgreen.errors import invalid_state, invalid_value
from tfgreen.model.paths import check_built_model, join_path, own_parameters, own_weights, walk, weights_by_path
from tfgreen.recipes.prune_channels import choose_channels
from tfgreen.recipes.prune_channels_config import ChannelPruneConfig, ChannelPruneOptions
from tfgreen.surgery.channel_groups import channel_groups
from tfgreen.surgery.channel_importance import slices
from tfgreen.surgery.channel_selection import Removed
from tfgreen.surgery.remove_channels import remove_channels
from tfgreen.techniques.strip import strip
from tfgreen.training.schedules import ScheduleLike, as_schedule
from tfgreen.transforms.base import Chain
from tfgreen.transforms.channel_mask import ChannelMask
from tfgreen.transforms.compress import Choice, compress
from tfgreen.transforms.lora import is_of_adapter

if TYPE_CHECKING:
    from typing_extensions import Unpack

_STAYS = 2.0  # no sparsity comes to it


def mask_channels(
    model: keras.Model,
    schedule: ScheduleLike,
    config: ChannelPruneConfig | None = None,
    **options: Unpack[ChannelPruneOptions],
) -> keras.Model:
    """Return a copy of ``model`` whose channels are held at zero, more and more of them, as it trains.

    They are those that :func:`tfgreen.prune_channels` would remove, the least important first; the others learn to do
    without. Compile the result, fit it with ``callbacks=[tg.UpdateCompression()]``, and take the channels out with
    :func:`tfgreen.remove_masked_channels`.

    Args:
        model: Any built Keras 3 model of plain layers. It is not changed.
        schedule: When the channels go: ``tg.PolynomialDecay(0.0, 0.5, ...)`` or ``tg.ConstantSparsity``. At its final
            sparsity all have gone.
        config: Which channels, and how many: a ratio or a target; by default the final sparsity is the ratio. Nothing
            is reconstructed.
        options: Fields of :class:`ChannelPruneConfig`, which override those of ``config``.

    Returns:
        A model of the same layers, names and shapes, not compiled.

    Raises:
        TypeError, ValueError: As for :func:`tfgreen.prune_channels`; or the end of the schedule is not known.

    Example:
        >>> import keras, tfgreen as tg
        >>> layers = [keras.layers.Dense(16, name="hidden"), keras.layers.Dense(4)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> masked = tg.mask_channels(model, tg.ConstantSparsity(0.5, begin_step=0, frequency=1))
        >>> tg.UpdateCompression(masked).step()
        >>> tg.remove_masked_channels(masked).get_layer("hidden").units
        8
    """
    schedule = as_schedule(schedule)
    if schedule.goal is None or not schedule.goal[1]:
        expected = "one whose final sparsity is known and above 0, such as tg.PolynomialDecay(0.0, 0.5, ...)"
        raise invalid_value("schedule", expected=expected, received=type(schedule).__name__)
    final = schedule.goal[1]
    config = resolve_config(ChannelPruneConfig, config, options)
    if config.target == "ratio" and config.ratio is None:
        config = resolve_config(ChannelPruneConfig, config, {"ratio": final})
    groups = channel_groups(model)
    selection, widths, _ = choose_channels(model, groups, config)
    layers = {"": model, **dict(walk(model))}
    when: dict[str, np.ndarray] = {}  # by path of the weight: at which sparsity each of its elements goes
    for group, channels, course in selection.course(widths):
        for edge in group.edges:
            weight = own_parameters(layers[edge.layer]).get(edge.weight)
            if weight is None or is_of_adapter(layers[edge.layer], weight):
                continue  # a statistic of batch normalization, or a part of LoRA, whose product the kernel's mask holds
            goes = np.full(weight.shape[edge.axis], _STAYS, np.float32)
            goes[edge.places[channels]] = (course * final)[:, None]
            path, shape = join_path(edge.layer, edge.weight), [1] * len(weight.shape)
            shape[edge.axis] = -1
            when[path] = np.minimum(when.get(path, np.float32(_STAYS)), goes.reshape(shape))

    def masks(path: str, layer: keras.Layer, chains: Mapping[str, Chain]) -> Choice:
        paths = {name: join_path(path, name) for name in weights_by_path(layer)}
        found = {name: when[whole] for name, whole in paths.items() if whole in when}
        return Choice({name: [ChannelMask(schedule, importance=goes)] for name, goes in found.items()})

    return compress(model, masks)


def remove_masked_channels(model: keras.Model) -> keras.Model:
    """Return a smaller copy of ``model``, without the channels all of whose trained weights are zero.

    These are channels that :func:`tfgreen.mask_channels` holds at zero, or that training has brought there. The copy
    computes what the model does.

    Args:
        model: A built model, with masks or stripped of them. It is not changed.

    Returns:
        A model of plain layers, not compiled: what ``tg.strip`` returns, without the channels.

    Raises:
        TypeError: ``model`` is no ``keras.Model``.
        ValueError: It is not built, or no channel is zero in all weights that hold it.

    Example:
        >>> import keras, tfgreen as tg
        >>> layers = [keras.layers.Dense(4, use_bias=False, name="hidden"), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((8,)), *layers])
        >>> _ = layers[0].kernel.assign(layers[0].kernel * [1, 0, 1, 1])
        >>> _ = layers[1].kernel.assign(layers[1].kernel * [[1], [0], [1], [1]])
        >>> tg.remove_masked_channels(model).get_layer("hidden").units
        3
    """
    check_built_model(model)
    plain = strip(model)
    groups, layers = channel_groups(plain), {"": plain, **dict(walk(plain))}
    removed: Removed = []
    for group in groups:
        gone = np.array([not reason for reason in group.fixed])
        edges = [edge for edge in group.edges if edge.weight in own_parameters(layers[edge.layer])]
        for edge in edges:
            value = own_weights(layers[edge.layer])[edge.weight].numpy()
            gone &= ~slices(value, edge.axis, edge.places).any(1)
        channels = np.flatnonzero(gone)[: group.size - 1]
        if edges and len(channels):
            removed.append((group, channels))
    if not removed:
        sentence = f"Of model '{model.name}' no channel is zero in all weights that hold it."
        raise invalid_state(sentence, "Mask channels with tg.mask_channels, and train to the end of its schedule.")
    return remove_channels(plain, groups.analysis, removed)
