"""Warm up, measure, train in the graph, measure again: `python -m plan_execute` in the folder `examples`."""

from gallery import main

from plan_execute.graph import EXAMPLE

if __name__ == "__main__":
    main(EXAMPLE)
