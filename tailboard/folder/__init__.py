"""Jobs in a folder: the storage without Redis, and each machine's spool."""
