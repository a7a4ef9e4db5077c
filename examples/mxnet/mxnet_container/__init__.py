"""The container of MXNet: what is special about it, for sagemaker_framework."""
