"""Warm up, measure, train in the graph, measure again: `python -m reflexion` in the folder `examples`."""

from gallery import main

from reflexion.graph import EXAMPLE

if __name__ == "__main__":
    main(EXAMPLE)
