"""The judge on trial: whatever grades is measured before it is believed.

Only the records are loaded with the package; :mod:`reflectory.evaluation.judge.trial` holds
the trial.
"""
