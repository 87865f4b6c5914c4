"""What the dashboard's page uses."""
