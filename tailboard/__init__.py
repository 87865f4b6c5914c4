"""The parts of Tailboard, from which the modules at the top level are built."""
