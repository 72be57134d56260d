"""Models: one folder each. See README.md."""
