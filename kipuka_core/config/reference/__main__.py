"""Write the reference into ``docs/``, or into the directory named on the command line."""

import sys
from pathlib import Path

from kipuka_core.config.reference.write import write_reference

write_reference(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
