"""What money needs after the database was restored: no loan before every gateway has told what it spent."""
