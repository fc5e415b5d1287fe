"""Many networks: `run` evaluates predictors into a folder of results, whatever they do, and goes on where it stopped.

running.py  what is to be done, and what is left        driving.py  many at a time, by joblib
results.py  the folder: rows, and what the runs were    lanes.py    watches processes;  worker.py  is one
"""
