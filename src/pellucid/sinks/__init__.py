"""Places that a step is written to. They decide nothing, and no result depends on them."""
