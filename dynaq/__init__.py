"""Dyna-Q job recommenders, trained before launch on simulated rewards and compared by warm start."""

__version__ = "0.1.0"
