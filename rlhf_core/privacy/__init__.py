"""Pseudonyms and the rules for people's data."""
