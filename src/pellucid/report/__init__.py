"""A finished run for people: its numbers as text, as figures, as one document; several compared."""
