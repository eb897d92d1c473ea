"""What this machine can do, where the time of a step goes, and which settings would save some."""
