"""Gradio Spaces, each a folder as it is uploaded."""
