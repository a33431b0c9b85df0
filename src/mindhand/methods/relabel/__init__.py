"""Datasets told anew: what else could have been said of a frame, or done from it. A dataset in, a dataset out."""
