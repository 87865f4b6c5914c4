"""Code that the API's routes and the commands share. api.py passes in the store, so this package
imports neither folder/ nor machines/."""
