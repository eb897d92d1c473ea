"""Looking for what is wrong, before a run and after it. Nothing that a check trains is kept."""
