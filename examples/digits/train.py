"""Trains a classifier of handwritten digits: a script as data scientists write them for SageMaker."""

import argparse
import os

import joblib
import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--learning-rate", type=float, default=0.01)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

table = np.loadtxt(os.path.join(os.environ["SM_CHANNEL_TRAINING"], "digits.csv"), delimiter=",")
pixels, digits = table[:, :-1] / 16, table[:, -1].astype(int)
train_x, test_x, train_y, test_y = train_test_split(pixels, digits, test_size=0.25, random_state=args.seed)

model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=args.learning_rate, random_state=args.seed)
for epoch in range(args.epochs):
    model.partial_fit(train_x, train_y, classes=np.unique(digits))
    print(f"epoch={epoch + 1} accuracy={model.score(test_x, test_y):.4f}")

joblib.dump(model, os.path.join(os.environ["SM_MODEL_DIR"], "model.joblib"))
