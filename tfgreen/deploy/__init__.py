"""The artifact: convert, run, verify, benchmark."""
