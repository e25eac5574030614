"""Keras 2's .h5 files, rebuilt as Keras 3 models."""
