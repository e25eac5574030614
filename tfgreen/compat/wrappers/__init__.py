"""The layers that TFMOT's functions return, with the attributes that its wrappers have."""
