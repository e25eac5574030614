"""Which candidate a search tries next, and how far."""
