"""Correction loops as services: an endpoint for OpenAI's clients, and a graph for LangGraph's server."""
