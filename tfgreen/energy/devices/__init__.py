"""What devices can do and what they draw, as data files, and what a model costs there."""
