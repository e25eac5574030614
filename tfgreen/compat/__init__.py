"""TFMOT's names over tfgreen's verbs: change one import, and TFMOT code runs on Keras 3.

``from tfgreen import compat as tfmot`` stands for ``import tensorflow_model_optimization as tfmot``. What does better,
and so does something else, warns once; what has no counterpart raises with the way that there is. ``python
scripts/tfmot_table.py`` prints every name of TFMOT and its state.

Example:
    >>> import keras, tfgreen.compat as tfmot
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> pruned = tfmot.sparsity.keras.prune_low_magnitude(model, tfmot.sparsity.keras.ConstantSparsity(0.5, 0))
    >>> tfmot.sparsity.keras.strip_pruning(pruned).count_params()
    36
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tfgreen.compat.unknown import unknown_name
from tfgreen.version import __version__ as __version__

if TYPE_CHECKING:
    from tfgreen import version as version
    from tfgreen.compat import clustering as clustering
    from tfgreen.compat import experimental as experimental
    from tfgreen.compat import quantization as quantization
    from tfgreen.compat import sparsity as sparsity

_MODULES = {
    "clustering": "tfgreen.compat.clustering",
    "experimental": "tfgreen.compat.experimental",
    "quantization": "tfgreen.compat.quantization",
    "sparsity": "tfgreen.compat.sparsity",
    "version": "tfgreen.version",
}

__all__ = ["__version__", *_MODULES]


if not TYPE_CHECKING:  # for which a module with __getattr__ would have every name

    def __getattr__(name: str) -> object:
        # On first use, so that an import of tfgreen.compat imports neither Keras nor TensorFlow.
        if name not in _MODULES:
            raise unknown_name(__name__, name, __all__)
        value = globals()[name] = importlib.import_module(_MODULES[name])
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
