"""Vectors of cells and genes that another model gave elsewhere."""
