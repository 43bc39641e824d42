"""A language agent's tree search (LATS): moves are drawn, rated, and the most promising place is grown further.

Run it from the folder `examples`: `python -m tree_search`.
"""
