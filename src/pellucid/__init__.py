from pellucid.recipes import good as good
from pellucid.plan import epochs as epochs, steps as steps
from pellucid.train import train as train, resume as resume
