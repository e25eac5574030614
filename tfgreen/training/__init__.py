"""What lives only inside fit."""
