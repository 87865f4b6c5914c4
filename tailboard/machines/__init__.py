"""Several machines that share their jobs through Redis. Imports none of the top-level modules, and
a worker on one machine does not import it."""
