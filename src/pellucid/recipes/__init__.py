"""Named recipes: functions that return a value, each with what it promises."""

from pellucid.recipes.named import good as good
from pellucid.recipes.named import notes as notes
