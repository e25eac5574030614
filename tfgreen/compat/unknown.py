"""Names that TFMOT has not in public: the nearest that there is, and what became of those of TensorFlow 1."""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Iterable
from typing import NoReturn

_PRUNED = "For isinstance, take PruneLowMagnitude from tfgreen.compat.wrappers.pruned."
_NO_OP = (
    "For NoOpQuantizeConfig, leave the layer without annotation, or write a tfmot.quantization.keras.QuantizeConfig "
    "whose lists are empty: the layer stays in float."
)
PRIVATE = (
    "TFMOT's modules below 'python' are private; every public name is in scripts/tfmot_table.md. "
    f"{_PRUNED} {_NO_OP} Both are in scripts/docs/guides/tfmot.md."
)
_PRUNING = "tf.contrib.model_pruning was of TensorFlow 1: call tfmot.sparsity.keras.prune_low_magnitude(model)."
_QUANTIZE = "tf.contrib.quantize was of TensorFlow 1: call tfmot.quantization.keras.quantize_model(model)."
_WAYS = {
    "python": PRIVATE,
    "core": PRIVATE,
    **dict.fromkeys(("pruning_wrapper", "PruneLowMagnitude"), _PRUNED),
    **dict.fromkeys(("default_8bit_quantize_configs", "NoOpQuantizeConfig"), _NO_OP),
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


def answer_unknown_names(package: str) -> None:
    """Let a package of ``tfgreen.compat`` and all below it, which it has imported, answer the names that they have not.

    Their ``__getattr__`` is not written in them: a type checker would take every name for one that they have.
    """
    for path, module in list(sys.modules.items()):
        if path == package or path.startswith(f"{package}."):
            vars(module).setdefault("__getattr__", functools.partial(_missing, path))


def _missing(path: str, name: str) -> NoReturn:
    raise unknown_name(path, name, vars(sys.modules[path]))
