"""What dashboard.py uses. It imports nothing of the storage: the page knows only the API."""
