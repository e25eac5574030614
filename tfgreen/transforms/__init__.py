"""Tensor to tensor: one file per function, and the layers that carry them."""
