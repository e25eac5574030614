"""The commands, a file for each: its arguments, what it does, an example."""
