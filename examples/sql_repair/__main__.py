"""Warm up, measure, train in the graph, measure again: `python -m sql_repair` in the folder `examples`."""

from gallery import main

from sql_repair.traces import example

if __name__ == "__main__":
    main(example())
