"""Models behind one interface. `Policy` is what the algorithm sees; only the `local` side of it imports torch."""

import os

# OpenMP reads this once, when torch is first imported, so it has to be said before. Sandboxes keep the other cores busy,
# and threads that spin while they wait cost several times the CPU there.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
