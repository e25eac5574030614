"""Federated learning: clients train on data of their own and share compressed updates only."""
