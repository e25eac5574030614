"""Model to smaller model: what channels of which weights go together, and how they are taken out."""
