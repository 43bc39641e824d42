"""Retrieve, grade, rewrite the search, answer: a LangGraph graph whose nodes learn by what the index returns.

Run it from the folder `examples`: `python -m corrective_rag`.
"""
