"""The coded file: a model stored at the size that clustering and pruning earned it."""
