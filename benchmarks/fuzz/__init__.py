"""Malformed input at high rate: nothing may crash, leak a trace, or grow without bound."""
