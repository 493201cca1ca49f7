"""Telling people and programs what happened: by letter and by webhook, each once."""
