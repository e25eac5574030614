"""Depth: the blocks that a model repeats, copies with fewer of them, and which of them it needs least."""
