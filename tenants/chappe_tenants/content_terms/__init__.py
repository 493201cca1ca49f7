"""What a region may still keep of a project's content."""
