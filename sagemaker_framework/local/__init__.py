"""A local stand-in for SageMaker: several hosts on one machine."""
