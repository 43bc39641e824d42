"""Warm up, measure, train in the graph, measure again: `python -m map_reduce` in the folder `examples`."""

from gallery import main

from map_reduce.graph import EXAMPLE

if __name__ == "__main__":
    main(EXAMPLE)
