"""What energy emits: grids, footprints, and the best time."""
