"""What an operator feeds in (viewers, segments, follows), and the reach that a creator may ask for."""
