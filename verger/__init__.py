"""Verger: fruit photos to vectors, vectors to components."""

__version__ = "0.1.0"
