"""Gates: what a version must show before it reaches users."""
