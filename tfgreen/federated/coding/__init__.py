"""Updates as few bytes: NumPy only."""
