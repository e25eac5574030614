"""layer_rows: what became of each layer, read off the file that ships and the models before and after."""

from __future__ import annotations

import keras
import numpy as np

from tfgreen.deploy.inspection.compare_layers import compare_layers
from tfgreen.deploy.litert_model import LiteRTModel
from tfgreen.model.cost import profile, profiled_layers
from tfgreen.reports.layer_row import LayerRow
from tfgreen.transforms.codebook import Codebook
from tfgreen.transforms.compressed import compressed_layers
from tfgreen.typing import Samples

MOST_CLUSTERS = 64  # a kernel with more values, or with nearly all that its bits can tell apart, is not clustered


def layer_rows(
    model: keras.Model, lite: LiteRTModel, *, before: keras.Model | None = None, x: Samples | None = None
) -> tuple[LayerRow, ...]:
    """A row for each layer whose weights the file holds, in the order in which they run.

    ``before`` is the model that it was made from, ``x`` samples on which the error of each layer is measured; without
    them there are no figures from before, and no errors.

    Example:
        >>> import keras, numpy as np, tfgreen as tg
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="out")])
        >>> [(row.path, row.macs, row.channels, row.bits) for row in layer_rows(model, tg.convert(model))]
        [('out', 32, 4, 32)]
    """
    macs = {layer.path: layer.macs for layer in profile(model).layers}
    old = {} if before is None else {layer.path: layer.macs for layer in profile(before).layers}
    channels = {} if before is None else {path: _channels(layer) for path, layer in profiled_layers(before)}
    errors = {} if x is None else {p: e.sqnr_db for e in compare_layers(model, lite, x).layers for p in e.paths}
    clustered = {
        path for path, layer in compressed_layers(model)
        if any(isinstance(transform, Codebook) for chain in layer.chains for transform in chain.transforms)
    }  # fmt: skip
    graph, rows = lite.parsed.subgraphs[0], dict[str, LayerRow]()
    for operator, status in zip(graph.operators, lite.audit.operators):
        tensors = [graph.tensors[i] for i in operator.inputs if i >= 0]
        weights = [lite.weights[name] for tensor in tensors if (name := tensor.name.decode()) in lite.weights]
        path = next((path for path in status.layers if path in macs), None)
        if path is None or not weights:
            continue
        weight = max(weights, key=lambda item: item.values.size)
        values = len(np.unique(weight.values)) - bool(weight.zeros)
        few = min(MOST_CLUSTERS, (weight.values.size - weight.zeros) // 4, 2 ** (weight.bits - 1))
        sqnr = errors.get(path)
        rows.setdefault(
            path,
            LayerRow(
                path=path,
                macs=macs[path],
                macs_before=old.get(path),
                channels=int(graph.tensors[operator.outputs[0]].shape[-1]),
                channels_before=channels.get(path),
                sparsity=weight.zeros / weight.values.size,
                clusters=values if path in clustered or values <= few else None,
                bits=weight.bits,
                sqnr_db=sqnr if sqnr is not None and np.isfinite(sqnr) else None,
            ),
        )
    return tuple(rows.values())


def _channels(layer: keras.Layer) -> int | None:
    """How many channels a layer was made to have."""
    return getattr(layer, "filters", getattr(layer, "units", None))
