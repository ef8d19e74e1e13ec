"""Layers around the app."""
