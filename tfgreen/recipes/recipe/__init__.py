"""What a run is to do: the steps of a recipe, each a verb with its settings, and the budget."""
