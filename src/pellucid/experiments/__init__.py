"""Several runs that belong together: comparisons, k-fold, searches."""
