"""Geneformer (V1 and V2). See README.md."""
