"""THE CHAOS SUITE: real processes are killed, stopped and cut off while clients submit, and then the rows are asked.

    PYTHONPATH=tests:tests/verification python -m chaos [SCENARIO…] [--small] [--seed N] [--page]

Read `scenario` (what a scenario is and how it is played), `world` (its folder and its database), `fleet` (the
processes), `client` (who submits, and what it was promised), `faults`, `checks` (the questions, in SQL), `scenarios`.
"""
