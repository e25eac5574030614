"""The steps of a run: each a function from a state, its settings and the task to the next state."""
