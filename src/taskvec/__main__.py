"""``python -m taskvec``."""

import sys

from taskvec.cli import main

sys.exit(main())
