"""Where the tests' agents say that they run."""

from contracts.instance import Instance

HERE = Instance(place="1" * 32, boot="2" * 32, machine="anna-1")
