"""A model and a task for cellfm-bench from another package."""
