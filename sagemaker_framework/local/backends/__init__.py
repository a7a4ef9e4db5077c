"""What plays the hosts of a job on one machine."""
