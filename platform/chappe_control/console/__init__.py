"""The operator's console: pages across tenants, for people whose role allows them. It reads, and changes nothing."""
