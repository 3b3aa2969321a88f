"""What a text says, put into the lungs of a CT that is there."""
