"""Final training and test, losses and optimizers."""
