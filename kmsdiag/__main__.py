"""``python -m kmsdiag``."""

import sys

from kmsdiag.cli import main

sys.exit(main())
