"""The routes, one file a subject. `TABLE` in tests/api lists each with its permission."""
