"""Reads that several services share."""
