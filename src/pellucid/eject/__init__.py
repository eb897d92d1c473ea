"""A run as a script of its own: the loop of one recipe, without pellucid.

`collect.py` takes the source of the parts that the recipe uses out of the package; `script.py` and
`loop.py` write what stands around them; `check.py` runs the script and compares the weights.
"""

from pellucid.eject.check import Verdict, check
from pellucid.eject.facts import CannotEject
from pellucid.eject.write import eject

__all__ = ["CannotEject", "Verdict", "check", "eject"]
