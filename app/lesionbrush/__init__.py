"""LesionBrush: paint a lesion on a CT, get the same CT with that lesion in it."""

import os

__version__ = "0.1.0"

# GNU OpenMP's threads wait by spinning: with anything else running on the machine a synthesis then takes ten
# times as long. Read when torch is first imported, by this process and by those it starts.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
