"""Pictures of the desk with questions and answers: what the small VLM learns to read, count and reason from."""
