"""What a month's usage would have cost under a draft of prices: exact, from sums, whatever the number of events."""
