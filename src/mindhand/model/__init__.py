"""The heart: trunk, vision, mixture of experts, action expert, reasoning-following. Knows no method by name."""
