"""A supervisor and two workers, of which one learns: `trainable={"reckoner"}`.

Run it from the folder `examples`: `python -m supervisor`.
"""
