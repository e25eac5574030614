"""What models are compared by: a metric of Keras, the direction that is better, and its value on a split."""
