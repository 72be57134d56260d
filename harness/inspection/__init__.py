"""Is this file fit, and for what? A verdict on cells in seconds, without any weights."""
