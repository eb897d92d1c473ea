"""The run folder: plain files that can be read without pellucid. No pickle anywhere."""
