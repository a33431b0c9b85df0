"""What is seen, and what is kept of it: streams of tokens to the trunk or to the hand."""
