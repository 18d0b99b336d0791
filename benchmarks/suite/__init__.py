"""Each compiled step alone, under pytest-benchmark; inside the tests each runs once."""
