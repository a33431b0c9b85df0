"""One loop; stages as data, trainable patterns, losses, optimiser and steps."""
