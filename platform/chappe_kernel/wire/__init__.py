"""Messages between processes, as msgspec structs: both ends import the same definition."""
