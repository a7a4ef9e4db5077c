"""The training container for TensorFlow."""
