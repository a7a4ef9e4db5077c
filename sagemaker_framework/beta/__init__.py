"""For containers that were written for sagemaker-containers: `from sagemaker_framework.beta import framework`."""
