"""How many known viewers an audience holds."""
