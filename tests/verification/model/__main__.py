"""PYTHONPATH=tests:tests/verification python -m model --examples 5000 --seed 1: for as long as is wanted."""

import argparse
import logging
import time

from model import machine
from model.driver import driven
from support import world


def main() -> None:
    parser = argparse.ArgumentParser(prog="model", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=50, help="of each example")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres", choices=["embedded", "system"], default="embedded")
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)  # thousands of stale ends and rescues are what it is about
    began = time.monotonic()
    with world.server(wanted.postgres) as server, driven(server) as driver:
        steps = machine.run(driver, examples=wanted.examples, steps=wanted.steps, number=wanted.seed)
    print(f"seed {wanted.seed}: {steps} steps in {time.monotonic() - began:.0f} s, each as the model says")


if __name__ == "__main__":
    main()
