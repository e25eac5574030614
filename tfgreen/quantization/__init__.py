"""What LiteRT computes of a Keras model, in Keras."""
