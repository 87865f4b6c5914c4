"""The parts from which the modules at the top level are built."""

__version__ = "1.0.0"
