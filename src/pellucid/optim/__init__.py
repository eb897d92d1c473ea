"""Optimizers, parameter groups, schedules and losses, as values in a recipe."""
