"""Tell what was done: figures, plots, text, HTML."""
