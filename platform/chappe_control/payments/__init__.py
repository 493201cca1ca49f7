"""The control plane's part of payments: what talks to the service, and the door at which the service knocks."""
