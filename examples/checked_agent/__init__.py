"""LangChain's `create_agent` with a tool, and a middleware that sends an answer back which the tool never told.

Run it from the folder `examples`: `python -m checked_agent`.
"""
