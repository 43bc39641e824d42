"""Write a query, run it, check it, write it again: a LangGraph graph that learns SQL by what its queries return.

Run it from the folder `examples`: `python -m sql_repair`.
"""
