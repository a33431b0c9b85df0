"""The nouns and the seams. Knows no method by name and imports nothing of mindhand outside itself."""
