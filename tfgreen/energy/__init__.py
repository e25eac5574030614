"""The account: joules, and what they emit."""
