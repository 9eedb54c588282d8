"""The pages, in one folder a section; `_ui` holds what they share.

No page script may lie directly here: a script in `pages/` beside `app.py` can run on the first hit
of a fresh server without `app.py`, so without the frame. `tests/test_architecture.py` forbids it.
"""
