"""Serving the promoted reward model: `from rlhf_core.serving import rerank_candidates`."""

from rlhf_core.serving.rerank import Reranked, is_model_ready, rerank_candidates

__all__ = ["Reranked", "is_model_ready", "rerank_candidates"]
