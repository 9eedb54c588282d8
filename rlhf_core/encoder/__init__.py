"""The sentence encoder and its cache."""
