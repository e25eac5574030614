"""Store the weights of a converted file in fewer bytes; no Keras here."""
