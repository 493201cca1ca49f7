"""Service accounts: programs of a project, whose keys belong to no person."""
