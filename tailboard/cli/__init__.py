"""The `flask` commands, one file for each subject. COMMANDS in api.py registers them."""
