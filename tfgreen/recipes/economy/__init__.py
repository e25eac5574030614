"""Training that costs less: fit with its savings, and what each saves."""
