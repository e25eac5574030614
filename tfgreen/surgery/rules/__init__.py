"""The rules of layers and raw operations: what of their weights and settings goes with which channels."""
