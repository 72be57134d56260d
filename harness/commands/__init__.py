"""The commands of `cellfm-bench`, one file each; every `main(arguments)` gives the exit code."""
