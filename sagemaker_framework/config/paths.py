"""The paths of files and folders in a training container.

The layout under /opt/ml is SageMaker's ("How Amazon SageMaker provides training
information", the SageMaker developer guide). Nothing here touches the disk.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Paths:
    """The folders and files of one host, below a base folder.

    Args:
        base: the base folder, `/opt/ml` in a real container.
    """

    def __init__(self, base: str) -> None:
        join = os.path.join
        self.base = base
        self.code = join(base, "code")
        self.model = join(base, "model")
        self.input = join(base, "input")
        self.input_config = join(self.input, "config")
        self.input_data = join(self.input, "data")
        self.output = join(base, "output")
        self.output_data = join(self.output, "data")
        self.output_intermediate = join(self.output, "intermediate")
        self.failure = join(self.output, "failure")
        #: The success files: the older toolkits' name, and the name in the SageMaker documentation.
        self.success_markers = (join(self.output, "success"), join(base, "success"))

    def channel(self, name: str) -> str:
        """Return the folder of the channel `name`."""
        return os.path.join(self.input_data, name)

    def config(self, file: str) -> str:
        """Return the path of the configuration file `file`, such as `hyperparameters.json`."""
        return os.path.join(self.input_config, file)


def current(environ: Mapping[str, str] | None = None) -> Paths:
    """Return the paths below `SAGEMAKER_BASE_DIR`, or below /opt/ml if it is not set.

    Args:
        environ: the environment variables to read; `os.environ` if None.
    """
    environ = os.environ if environ is None else environ
    # Absolute, because programs run in another folder.
    return Paths(os.path.abspath(environ.get("SAGEMAKER_BASE_DIR") or "/opt/ml"))
