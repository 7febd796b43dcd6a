"""Names of base models and where their weights come from; without torch.

`resolve` turns what a user wrote into a canonical name, `reference` into what is loaded. `CATALOGUE` has the facts of
known models, `stored` tells what is on this machine, `find` where it came from, `forget` deletes it.
`local_backend.engine.weights.ensure` makes a loadable folder of a name.
"""

from __future__ import annotations

from local_backend.models.cache import Source, find, forget, stored
from local_backend.models.catalogue import CATALOGUE, BaseModel
from local_backend.models.hub import Progress
from local_backend.models.names import reference, resolve

__all__ = ["CATALOGUE", "BaseModel", "Progress", "Source", "find", "forget", "reference", "resolve", "stored"]
