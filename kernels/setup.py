"""Builds each C file into a library that is loaded by path; it knows no Python, so one wheel serves all."""

from setuptools import Distribution, Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# Products of floats are rounded as they stand in the source, never fused with an addition: the bits of numpy.
FLAGS = ["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]


class Libraries(build_ext):
    """Names without a Python version in them."""

    def get_ext_filename(self, name: str) -> str:
        return name.replace(".", "/") + ".so"


class Wheel(bdist_wheel):
    """For this platform, and any Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class Binary(Distribution):
    """Not for every platform."""

    def has_ext_modules(self) -> bool:
        return True


setup(
    distclass=Binary,
    cmdclass={"build_ext": Libraries, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(f"fedslice_kernels.{name}", [f"{name}.c"], extra_compile_args=FLAGS, extra_link_args=["-s"])
        for name in ("passes", "product")
    ],
)
