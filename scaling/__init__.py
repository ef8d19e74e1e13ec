"""How much of everything a number of users needs, and what saturates first."""
