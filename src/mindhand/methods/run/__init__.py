"""Around a policy while it runs: what makes it faster, or chooses among what it would do. Policies round policies."""
