"""What is thought in words before a hand moves, and from where it is learned."""
