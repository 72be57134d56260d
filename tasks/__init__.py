"""Tasks: one folder each. See README.md."""
