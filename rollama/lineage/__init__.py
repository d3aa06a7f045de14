"""What was made from what, from imported data to the clinic, in events that cannot be changed unnoticed."""
