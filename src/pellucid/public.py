"""All public names, imported at once; `pellucid` brings them in when one is first used."""

from pellucid.catalogue import from_tree as from_tree
from pellucid.catalogue import to_tree as to_tree
from pellucid.data.wrapped import FromDataset as FromDataset
from pellucid.engine import Engine as Engine
from pellucid.inference import Classifier as Classifier
from pellucid.inference import load as load
from pellucid.loop import fit as fit
from pellucid.plan import Duration as Duration
from pellucid.plan import epochs as epochs
from pellucid.plan import steps as steps
from pellucid.recipe import Recipe as Recipe
from pellucid.recipes.plain import good as good
from pellucid.recipes.plain import notes as notes
from pellucid.runs.folder import Run as Run
from pellucid.sinks.console import Console as Console
from pellucid.training import resume as resume
from pellucid.training import train as train
