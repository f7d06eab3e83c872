"""``python -m kipuka_core.cli``: the same as ``kipuka``."""

from kipuka_core.cli import main

main()
