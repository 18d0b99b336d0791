"""Which of a batch of viewers are in a segment: copies of segments that answer this faster than Roaring does."""
