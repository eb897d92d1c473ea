"""Words that fit a figure."""

from __future__ import annotations


def clipped(text: str, most: int) -> str:
    """Return `text` with at most `most` letters.

    >>> clipped("wasp", 14), clipped("european hornet, male", 14)
    ('wasp', 'european ho...')
    """
    return text if len(text) <= most else text[: most - 3] + "..."
