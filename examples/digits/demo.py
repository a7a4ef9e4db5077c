"""Runs train.py as a SageMaker training job on this machine, through the real `train` command.

Lays out the folders of a job, puts the code on an S3 server (moto's, over HTTP) as `source.tar.gz`, and starts
`train` as SageMaker does. Needs the `demo` extra; `make demo` sets everything up.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

import boto3
import numpy as np
from moto.server import ThreadedMotoServer
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
BUCKET, KEY = "sagemaker-us-west-2-123456789012", "digits/source/source.tar.gz"

#: As the SageMaker SDK sends them: each value is JSON.
HYPERPARAMETERS = {
    "epochs": 20,
    "learning-rate": 0.02,
    "sagemaker_program": "train.py",
    "sagemaker_submit_directory": f"s3://{BUCKET}/{KEY}",
    "sagemaker_container_log_level": 20,
    "sagemaker_job_name": "digits",
    "sagemaker_region": "us-west-2",
}


def lay_out(base: Path) -> None:
    """Make the folders and files that SageMaker makes before it starts a container."""
    for folder in ("input/config", "input/data/training", "model", "output/data"):
        (base / folder).mkdir(parents=True)
    config = {
        "hyperparameters": {name: json.dumps(value) for name, value in HYPERPARAMETERS.items()},
        "resourceconfig": {
            "current_host": "algo-1",
            "current_instance_type": "ml.m5.large",
            "current_group_name": "homogeneousCluster",
            "hosts": ["algo-1"],
            "instance_groups": [
                {"instance_group_name": "homogeneousCluster", "instance_type": "ml.m5.large", "hosts": ["algo-1"]}
            ],
            "network_interface_name": "eth0",
            "topology": None,
        },
        "inputdataconfig": {
            "training": {
                "ContentType": "text/csv",
                "TrainingInputMode": "File",
                "S3DistributionType": "FullyReplicated",
                "RecordWrapperType": "None",
            }
        },
    }
    for name, content in config.items():
        (base / "input/config" / f"{name}.json").write_text(json.dumps(content))
    pixels, digits = load_digits(return_X_y=True)
    np.savetxt(base / "input/data/training/digits.csv", np.column_stack([pixels, digits]), fmt="%d", delimiter=",")


def upload_source(endpoint: str, credentials: dict[str, str]) -> None:
    """Put train.py on the S3 server, in an archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(HERE / "train.py", "train.py")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-west-2",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    client.put_object(Bucket=BUCKET, Key=KEY, Body=packed.getvalue())


def train(base: Path, environment: dict[str, str]) -> tuple[int, str, float]:
    """Run the installed `train` command, showing its output; its exit code, output, and wall time in seconds."""
    command = Path(sysconfig.get_path("scripts")) / "train"
    begun = time.monotonic()
    process = subprocess.Popen(
        [command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=base
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print("   ", line, end="")
        lines.append(line)
    return process.wait(), "".join(lines), time.monotonic() - begun


def main() -> int:
    credentials = {"AWS_ACCESS_KEY_ID": "demo", "AWS_SECRET_ACCESS_KEY": "demo-secret"}
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        upload_source(endpoint, credentials)
        with tempfile.TemporaryDirectory(prefix="digits-") as folder:
            base = Path(folder) / "ml"
            lay_out(base)
            print(f"training job in {base}, source from {endpoint}")
            environment = {
                **os.environ,
                **credentials,
                "AWS_ENDPOINT_URL_S3": endpoint,
                "AWS_REGION": "us-west-2",
                "SAGEMAKER_BASE_DIR": str(base),
                "TRAINING_JOB_NAME": "digits",
            }
            code, output, seconds = train(base, environment)
            return summarise(base, code, output, seconds)
    finally:
        server.stop()


def summarise(base: Path, code: int, output: str, seconds: float) -> int:
    """Print what came of the job; 0 if it did what it should."""
    failure = base / "output/failure"
    if code or not (base / "output/success").exists():
        print(f"the job failed with exit code {code}: {failure.read_text() if failure.exists() else 'no failure file'}")
        return 1
    accuracy = re.findall(r"accuracy=([\d.]+)", output)[-1]
    program = float(re.findall(r"train\.py exited with code 0 after ([\d.]+) s", output)[-1])
    model = base / "model/model.joblib"
    print(f"accuracy       {accuracy}")
    print(f"model          {model.name}, {model.stat().st_size:,} bytes")
    print(f"whole job      {seconds:.2f} s")
    print(f"the program    {program:.2f} s, the start of its Python included")
    print(f"our overhead   {seconds - program:.2f} s: starting train, and fetching the source with boto3")
    return 0 if float(accuracy) > 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
