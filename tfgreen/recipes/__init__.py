"""Compose the verbs."""
