"""`python -m sagemaker_framework` is the `sagemaker-framework` command."""

import sys

from sagemaker_framework.cli import main

sys.exit(main())
