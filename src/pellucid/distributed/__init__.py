"""Several processes that train one model: who they are, what they add up, how they end.

Nothing here knows the loop, a recipe or a run folder.
"""
