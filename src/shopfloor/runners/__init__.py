"""Runners that keep a failure local and resume rightly."""
