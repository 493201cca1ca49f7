"""Sessions of people who signed in, in the portal or the console. Only a digest of a session's secret is stored."""
