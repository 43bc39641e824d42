"""Arms whose episodes have many turns: a policy that judges its answers, revises them, and stops when it is content.

One file an arm; `playing.py` holds what they share. All pay per turn on the trainer of the other arms: what differs is
the loop that is played, and who is paid what.
"""
