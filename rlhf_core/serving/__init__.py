"""The promoted version answers: rerank and score."""
