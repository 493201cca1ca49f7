"""Mail to people: ordered in the transaction that gives reason to it, written and sent after that."""
