"""Frequency caps: how often a viewer was shown, or may be about to be shown, a creator's videos today."""
