"""Read a model, hand back another."""
