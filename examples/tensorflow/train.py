"""Trains a small network on handwritten digits: alone, with parameter servers, or with mirrored workers.

A script as data scientists write it for SageMaker. How it trains is what TF_CONFIG says, which the container sets:
with a task `ps` it uses ParameterServerStrategy; with workers only, MultiWorkerMirroredStrategy; without TF_CONFIG, or
with one task, it trains alone. Any of these comes to the same accuracy, within a point or two.
"""

import argparse
import json
import os
import sys

import numpy as np
import tensorflow as tf


class Network(tf.Module):
    """Two layers, from 64 pixels to the scores of ten digits."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        self.layers = [
            (
                tf.Variable(random.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)),
                tf.Variable(tf.zeros(columns)),
            )
            for rows, columns in ((64, 32), (32, 10))
        ]

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32)])
    def __call__(self, pixels):
        (weights, bias), (weights_2, bias_2) = self.layers
        hidden = tf.nn.relu(tf.matmul(pixels, weights) + bias)
        return tf.matmul(hidden, weights_2) + bias_2

    def losses(self, pixels, digits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(digits, self(pixels))


class Data:
    """The digits of the channel `training`, split and shuffled in the same way on every host."""

    def __init__(self, seed: int, batch_size: int) -> None:
        table = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAINING"], "digits.csv"), delimiter=",")
        self.pixels, self.digits = (table[:, :-1] / 16).astype(np.float32), table[:, -1].astype(np.int32)
        shuffled = np.random.default_rng(seed).permutation(len(table))
        self.test, self.train = shuffled[: len(table) // 4], shuffled[len(table) // 4 :]
        self.seed, self.batch_size = seed, batch_size

    def batches(self, epoch: int):
        """The rows of each batch."""
        order = np.random.default_rng(self.seed + epoch).permutation(self.train)
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            yield order[start : start + self.batch_size]


def descend(network: Network, gradients, learning_rate: float) -> None:
    for variable, gradient in zip(network.trainable_variables, gradients):
        variable.assign_sub(learning_rate * gradient)


def train_mirrored(args: argparse.Namespace, data: Data, strategy: tf.distribute.Strategy) -> Network:
    """Each replica takes its share of every batch, and all add up their gradients.  Alone, it has the whole batch."""
    with strategy.scope():
        network = Network(args.seed)

    def shares(host: tf.distribute.InputContext) -> tf.data.Dataset:
        of_host = host.num_replicas_in_sync // host.num_input_pipelines  # as many as it has GPUs, or 1
        first = host.input_pipeline_id * of_host

        def rows():
            for epoch in range(args.epochs):
                for batch in data.batches(epoch):
                    for replica in range(first, first + of_host):
                        share = batch[replica :: host.num_replicas_in_sync]
                        yield data.pixels[share], data.digits[share]

        signature = tf.TensorSpec([None, 64], tf.float32), tf.TensorSpec([None], tf.int32)
        return tf.data.Dataset.from_generator(rows, output_signature=signature)

    def step(pixels, digits):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network.losses(pixels, digits)) / args.batch_size
        gradients = tape.gradient(loss, network.trainable_variables)
        replicas = tf.distribute.get_replica_context()
        descend(network, replicas.all_reduce(tf.distribute.ReduceOp.SUM, gradients), args.learning_rate)

    run = tf.function(lambda pixels, digits: strategy.run(step, args=(pixels, digits)))
    for pixels, digits in strategy.distribute_datasets_from_function(shares):
        run(pixels, digits)
    return network


def train_with_servers(args: argparse.Namespace, data: Data, cluster) -> Network:
    """The chief hands out batches; workers compute, and update the variables, which are on the servers."""
    strategy = tf.distribute.ParameterServerStrategy(cluster)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        network = Network(args.seed)

    @tf.function
    def step(pixels, digits):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network.losses(pixels, digits))
        descend(network, tape.gradient(loss, network.trainable_variables), args.learning_rate)

    for epoch in range(args.epochs):
        for batch in data.batches(epoch):
            coordinator.schedule(step, args=(data.pixels[batch], data.digits[batch]))
        coordinator.join()
    return network


def finish(args: argparse.Namespace, data: Data, network: Network, processes: int) -> None:
    """Tell how good it has become, and save it for TensorFlow Serving."""
    # A copy that is on this host alone: the variables may be on others, whose disks are not the chief's.
    served = Network(args.seed)
    for copy, variable in zip(served.variables, network.variables):
        copy.assign(variable.numpy())
    accuracy = (served(data.pixels[data.test]).numpy().argmax(axis=1) == data.digits[data.test]).mean()
    print(f"processes={processes} accuracy={accuracy:.4f}", flush=True)
    tf.saved_model.save(served, os.path.join(os.environ["SM_MODEL_DIR"], "digits", "1"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args, _ = parser.parse_known_args()  # The SageMaker SDK adds --model_dir.

    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    tasks = config.get("cluster", {})
    data = Data(args.seed, args.batch_size)

    if "ps" in tasks:
        cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
        if cluster.task_type == "worker":
            server = tf.distribute.Server(cluster.cluster_spec(), job_name="worker", task_index=cluster.task_id)
            server.join()  # Never returns: the container ends it when the chief has ended.
        finish(args, data, train_with_servers(args, data, cluster), 1 + len(tasks["worker"]))
        # The threads that watch the servers may keep the interpreter from ending.
        sys.stdout.flush()
        os._exit(0)
    elif len(tasks.get("worker", [])) > 1:
        network = train_mirrored(args, data, tf.distribute.MultiWorkerMirroredStrategy())
        if config["task"]["index"] == 0:
            finish(args, data, network, len(tasks["worker"]))
    else:
        finish(args, data, train_mirrored(args, data, tf.distribute.get_strategy()), 1)


if __name__ == "__main__":
    main()
