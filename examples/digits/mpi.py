"""Trains a logistic regression on handwritten digits with mpi4py, on any number of processes.

Run by mpirun: each process takes its share of every batch and all add up their gradients, so that any number of
processes, on any number of hosts, comes to the same model.
"""

import argparse
import os

import numpy as np
from mpi4py import MPI


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    rank, world_size = MPI.COMM_WORLD.Get_rank(), MPI.COMM_WORLD.Get_size()

    table = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAINING"], "digits.csv"), delimiter=",")
    pixels = np.column_stack([table[:, :-1] / 16, np.ones(len(table))])
    digits = table[:, -1].astype(int)
    shuffled = np.random.default_rng(args.seed).permutation(len(table))
    test, train = shuffled[: len(table) // 4], shuffled[len(table) // 4 :]

    weights = np.zeros((pixels.shape[1], 10))
    total = np.empty_like(weights)
    for epoch in range(args.epochs):
        order = np.random.default_rng(args.seed + epoch).permutation(train)
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            mine = batch[rank::world_size]
            scores = np.exp(pixels[mine] @ weights)
            error = scores / scores.sum(axis=1, keepdims=True) - np.eye(10)[digits[mine]]
            MPI.COMM_WORLD.Allreduce(pixels[mine].T @ error, total)
            weights -= args.learning_rate / len(batch) * total

    if rank == 0:
        accuracy = ((pixels[test] @ weights).argmax(axis=1) == digits[test]).mean()
        print(f"processes={world_size} accuracy={accuracy:.4f}")
        np.save(os.path.join(os.environ["SM_MODEL_DIR"], "weights.npy"), weights)


if __name__ == "__main__":
    main()
