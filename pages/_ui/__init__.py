"""The only place where page code is shared."""
