"""The run of one job on this host."""
