"""Gene function: what a gene does, told from the vector a model has of it."""
