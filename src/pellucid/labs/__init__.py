"""Labs: one concept per file, with a text, a computation, a picture, and claims that are checked.

`catalogue.py` lists them; `from pellucid.labs import chain_rule` and `chain_rule.run()` is one.
"""
