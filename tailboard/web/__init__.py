"""What the API's routes use."""
