"""TFMOT's ``sparsity.keras``: pruning."""

from tfgreen.compat.prune import PruningSummaries as PruningSummaries
from tfgreen.compat.prune import UpdatePruningStep as UpdatePruningStep
from tfgreen.compat.prune import prune_low_magnitude as prune_low_magnitude
from tfgreen.compat.prune import prune_scope as prune_scope
from tfgreen.compat.prune import strip_pruning as strip_pruning
from tfgreen.compat.pruning_bases import PrunableLayer as PrunableLayer
from tfgreen.compat.pruning_bases import PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack
from tfgreen.compat.pruning_bases import PruningPolicy as PruningPolicy
from tfgreen.compat.pruning_bases import PruningSchedule as PruningSchedule
from tfgreen.training.schedules import ConstantSparsity as ConstantSparsity
from tfgreen.training.schedules import PolynomialDecay as PolynomialDecay
