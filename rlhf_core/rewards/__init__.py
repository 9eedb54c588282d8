"""Reward models: learners that know no database."""
