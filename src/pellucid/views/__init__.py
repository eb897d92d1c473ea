"""The part of looking inside that reads a run: which model, which image, which layer."""
