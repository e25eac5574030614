"""Read what ships: the figures of files, whether data fits a model, and what tells one set of data from another."""
