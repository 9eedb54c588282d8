"""Engine, tables, queries and migrations: the only place that knows the database."""
