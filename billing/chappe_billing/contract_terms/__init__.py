"""What a contract says of a month as a whole: volume discounts, minimums, commitments."""
