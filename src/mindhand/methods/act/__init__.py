"""Actions: how they are coded, and how a hand draws them."""
