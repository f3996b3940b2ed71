"""Cells as sets of candidates, genotypes, and their text forms."""
