"""The parts from which the modules at the top level are built."""
