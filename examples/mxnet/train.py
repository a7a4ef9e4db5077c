"""Trains a network on handwritten digits: a script as data scientists write them for MXNet on SageMaker.

Alone, or as one of several workers, each of which takes its share of every batch: any number of them comes to the same
network, since the parameter servers add up what the workers send.
"""

import argparse
import os

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kvstore", default="dist_sync" if "DMLC_ROLE" in os.environ else "local")
    args = parser.parse_args()

    table = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAINING"], "digits.csv"), delimiter=",")
    pixels, digits = mx.nd.array(table[:, :-1] / 16), mx.nd.array(table[:, -1])
    shuffled = np.random.default_rng(args.seed).permutation(len(table))
    test, train = shuffled[: len(table) // 4], shuffled[len(table) // 4 :]

    mx.random.seed(args.seed)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(64, activation="relu"), gluon.nn.Dense(10))
    net.initialize(mx.init.Xavier())
    net.hybridize()

    kvstore = mx.kv.create(args.kvstore)
    trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": args.learning_rate}, kvstore=kvstore)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for epoch in range(args.epochs):
        order = np.random.default_rng(args.seed + epoch).permutation(train)
        for start in range(0, len(order) - args.batch_size + 1, args.batch_size):
            mine = order[start : start + args.batch_size][kvstore.rank :: kvstore.num_workers]
            with autograd.record():
                error = loss(net(pixels[mine]), digits[mine])
            error.backward()
            trainer.step(args.batch_size)  # of all workers together
    mx.nd.waitall()  # MXNet drops what is still to be sent when the script ends, and the other workers wait for it.

    if kvstore.rank == 0:
        accuracy = (net(pixels[test]).argmax(axis=1) == digits[test]).mean().asscalar()
        print(f"processes={kvstore.num_workers} accuracy={accuracy:.4f}")
        net.export(os.path.join(os.environ["SM_MODEL_DIR"], "model"))


if __name__ == "__main__":
    main()
