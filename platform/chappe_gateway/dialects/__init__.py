"""The APIs that are served, each translated to and from the gateway's own request and answer."""
