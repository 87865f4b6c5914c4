"""Notifications: when a job is late or silent, what a message says, and how it is sent."""
