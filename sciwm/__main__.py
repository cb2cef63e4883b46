"""`python -m sciwm` is the `sciwm` command."""

import sys

from sciwm.cli import main

sys.exit(main())
