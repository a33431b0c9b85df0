"""Data: episodes on disk and in memory, image-text, what mixes them, and what is wrong with them."""
