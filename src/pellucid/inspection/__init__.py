"""Looking inside a bare model: pure computations that leave it as it was."""
