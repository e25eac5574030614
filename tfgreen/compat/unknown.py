"""Names that TFMOT has not in public: the nearest that there is, and what became of those of TensorFlow 1."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable

_PRIVATE = "TFMOT's modules below 'python' are private; every public name is in scripts/tfmot_table.md."
_PRUNING = "tf.contrib.model_pruning was of TensorFlow 1: call tfmot.sparsity.keras.prune_low_magnitude(model)."
_QUANTIZE = "tf.contrib.quantize was of TensorFlow 1: call tfmot.quantization.keras.quantize_model(model)."
_WAYS = {
    "python": _PRIVATE,
    "core": _PRIVATE,
    "contrib": f"{_PRUNING} {_QUANTIZE}",
    **dict.fromkeys(("model_pruning", "apply_mask", "get_pruning_hparams", "MaskedConv2d", "Pruning"), _PRUNING),
    **dict.fromkeys(("create_training_graph", "create_eval_graph", "experimental_create_training_graph"), _QUANTIZE),
}


def unknown_name(module: str, name: str, names: Iterable[str]) -> AttributeError:
    """The error for a name that a module of ``tfgreen.compat`` has not; ``names`` are those that it has.

    Example:
        >>> print(unknown_name("tfgreen.compat.sparsity.keras", "ConstantSparcity", ["ConstantSparsity"]))
        module 'tfgreen.compat.sparsity.keras' has no attribute 'ConstantSparcity'. Did you mean 'ConstantSparsity'?
    """
    known = sorted(name for name in names if not name.startswith("_"))
    near = difflib.get_close_matches(name, known, 1)
    fix = _WAYS.get(name) or (f"Did you mean '{near[0]}'?" if near else f"It has {', '.join(known)}.")
    return AttributeError(f"module '{module}' has no attribute '{name}'. {fix}")


def unknown_names(module: str) -> Callable[[str], object]:
    """The ``__getattr__`` of a module, which is called for the names that it has not."""

    def missing(name: str) -> object:
        raise unknown_name(module, name, vars(sys.modules[module]))

    return missing
