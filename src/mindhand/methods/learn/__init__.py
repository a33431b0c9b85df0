"""Objectives and recipes: what else a policy is asked while it learns."""
