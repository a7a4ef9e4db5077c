"""The configuration of the job on this host: files, hyperparameters, settings, hardware and folders."""
