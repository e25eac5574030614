"""Stands for TFMOT's private modules, which an import statement names and tfgreen has not: it cannot be imported."""

from tfgreen.compat.unknown import PRIVATE

raise ImportError(f"There is no module '{__name__}'. {PRIVATE}", name=__name__)
