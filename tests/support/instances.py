"""Where the tests' agents say that they run."""

from contracts.instance import Instance

HERE = Instance(place="1" * 32, boot="2" * 32, machine="anna-1")
AS_HERE = """
import sys
from site_agent import cli, enrolment
from tests.support.instances import HERE
enrolment.instance_of = lambda *_: HERE
sys.exit(cli.main(sys.argv[1:]))
"""
"""For `python -c`: the site agent's commands, which say that they are typed there."""
