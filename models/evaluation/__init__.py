"""Evaluation that needs no training data: held-out recordings, judges, peers, and one table a run."""
