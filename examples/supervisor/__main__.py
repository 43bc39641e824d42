"""Warm up, measure, train in the graph, measure again: `python -m supervisor` in the folder `examples`."""

from gallery import main

from supervisor.graph import EXAMPLE

if __name__ == "__main__":
    main(EXAMPLE)
