"""Warm up, measure, train in the graph, measure again: `python -m tree_search` in the folder `examples`."""

from gallery import main

from tree_search.graph import EXAMPLE

if __name__ == "__main__":
    main(EXAMPLE)
