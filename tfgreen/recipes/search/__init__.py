"""Find the settings of a recipe that suit a budget: a study on Optuna, and what it found."""
