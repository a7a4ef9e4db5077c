"""Hosts made of Linux namespaces."""
