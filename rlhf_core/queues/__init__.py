"""Rating queues: named lists of items, leased to raters one at a time."""
