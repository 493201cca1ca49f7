"""What publishers are owed and paid. Only the books: nothing is sent to a bank."""
