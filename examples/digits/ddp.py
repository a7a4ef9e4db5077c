"""Trains a small network on handwritten digits with PyTorch's DistributedDataParallel, on any number of processes.

Run by torchrun: each process takes its share of every batch, so that any number of processes, on any number of hosts,
comes to the same model.
"""

import argparse
import os

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel


@record
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if on_gpu else torch.device("cpu")
    dist.init_process_group("nccl" if on_gpu else "gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()

    table = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAINING"], "digits.csv"), delimiter=",")
    pixels = torch.from_numpy(table[:, :-1] / 16).to(device)
    digits = torch.from_numpy(table[:, -1].astype(np.int64)).to(device)
    shuffled = torch.randperm(len(table), generator=torch.Generator().manual_seed(args.seed))
    test, train = shuffled[: len(table) // 4], shuffled[len(table) // 4 :]

    torch.manual_seed(args.seed)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    model = DistributedDataParallel(layers.double().to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.learning_rate)
    for epoch in range(args.epochs):
        order = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(args.seed + epoch))]
        for batch in order.split(args.batch_size):
            mine = batch[rank::world_size]
            # DistributedDataParallel takes the mean over the processes; this makes it the mean over the batch.
            loss = cross_entropy(model(pixels[mine]), digits[mine], reduction="sum") * world_size / len(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    if rank == 0:
        accuracy = (layers(pixels[test]).argmax(1) == digits[test]).double().mean().item()
        print(f"processes={world_size} accuracy={accuracy:.4f}")
        torch.save(layers.state_dict(), os.path.join(os.environ["SM_MODEL_DIR"], "model.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
