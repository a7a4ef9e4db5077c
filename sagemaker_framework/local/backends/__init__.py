"""The ways to run the hosts of a job on one machine."""
