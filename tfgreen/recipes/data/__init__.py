"""Data of any task: train, validation and test kept apart, read from arrays, files, folders or a function."""
