"""``python -m jaxrl`` is the command ``jaxrl``."""

import sys

from jaxrl.cli.main import main

sys.exit(main())
