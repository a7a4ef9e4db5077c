"""The names of `sagemaker_containers.beta.framework` that the AWS document uses."""

from __future__ import annotations

from sagemaker_framework import entry_point as entry_point
from sagemaker_framework import errors as errors
from sagemaker_framework import trainer as trainer
from sagemaker_framework.config.environment import TrainingEnv as TrainingEnv
from sagemaker_framework.config.files import training_env as training_env
