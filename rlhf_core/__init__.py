"""The loop of reinforcement learning from human feedback: rate, train, compare, promote, serve."""
