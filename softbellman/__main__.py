"""`python -m softbellman`: the command of the same name."""

import sys

from softbellman.cli.main import main

sys.exit(main())
