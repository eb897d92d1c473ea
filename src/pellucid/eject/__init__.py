"""A run as a script of its own: the loop of one recipe, without pellucid.

`facts.py` says what is known of the run, and refuses what cannot be written. `collect.py` takes the
source of the parts that the recipe uses out of the package. `script.py` puts them in the order of
events; `sources.py`, `augmentation.py`, `loop.py`, `texts.py` and `layout.py` write what stands
around them. `check.py` runs the script and compares the weights.
"""

from pellucid.eject.check import Verdict, check
from pellucid.eject.facts import CannotEject
from pellucid.eject.write import eject

__all__ = ["CannotEject", "Verdict", "check", "eject"]
