"""Model versions, aliases, and their history."""
