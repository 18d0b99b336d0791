"""Creators whose fans overlap most with a creator's fans, and who follows these creators."""
