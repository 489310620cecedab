"""Longskip's version: the one place that states it, read by the build as well."""

__version__ = "0.1.0"
