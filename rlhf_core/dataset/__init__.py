"""Training rows from feedback: built, split by prompt, frozen."""
