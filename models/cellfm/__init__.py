"""CellFM (Zeng et al. 2025), in PyTorch, reading the official MindSpore files. See README.md."""
