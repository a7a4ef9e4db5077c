"""What is known of the job on this host: its configuration files, settings, hardware and folders."""
