"""Warm up, measure, train in the graph, measure again: `python -m checked_agent` in the folder `examples`."""

from gallery import main

from checked_agent.graph import EXAMPLE

if __name__ == "__main__":
    main(EXAMPLE)
