"""Weights alone in integers."""
