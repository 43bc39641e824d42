"""Plan and execute: a way is planned, walked leg by leg, and planned anew from where a closed road stops it.

Run it from the folder `examples`: `python -m plan_execute`.
"""
