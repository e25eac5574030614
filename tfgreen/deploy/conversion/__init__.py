"""Keras model -> bytes, one named step after the other."""
