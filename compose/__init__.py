"""Brings a site up: the Lab protocol, the keeper of all processes, the native lab."""
