"""A small world with known truth: what an assistant said, what people thought of it, a judge."""
