"""Checking the takes of a manifest, or one pair of files, several at once."""
