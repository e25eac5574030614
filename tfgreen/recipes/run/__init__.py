"""Carry a recipe out, step by step and on disk, and report what came of it."""
