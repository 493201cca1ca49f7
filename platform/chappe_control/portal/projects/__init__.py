"""The tenant's projects: made, renamed, narrowed, archived; and their service accounts."""
