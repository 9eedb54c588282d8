"""Who signs in, what they may, and the audit."""
