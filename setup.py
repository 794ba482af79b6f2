"""A shim for tools that look for it; everything about the package is in pyproject.toml."""

from setuptools import setup

setup()
