"""Background work that survives a killed process."""
