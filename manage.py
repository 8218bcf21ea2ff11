"""Django's command line for the coordinator."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "federation.settings")
    from federation.command_line import run

    sys.exit(run(sys.argv))
