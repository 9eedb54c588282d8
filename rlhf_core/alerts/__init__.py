"""Rules that watch, the alerts that they open, the messages that go out, the weekly report."""
