"""mindhand: train the hand, keep the mind."""

__version__ = "0.1.0"
