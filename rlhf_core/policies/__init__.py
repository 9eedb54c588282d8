"""Learners of policies: what is trained to answer. They know no database and no reward model."""
