"""SageMaker on one machine: hosts that are not there."""
