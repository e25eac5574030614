"""Compose the verbs, and tell what they did."""
