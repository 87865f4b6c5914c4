"""What the API's routes and the commands use. api.py hands it the store, so it imports neither
folder/ nor machines/."""
