"""Teach language models to fix their own mistakes."""
