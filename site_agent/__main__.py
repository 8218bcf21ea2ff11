"""`python -m site_agent`."""

import sys

from site_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
