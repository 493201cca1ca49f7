"""The feed in the shape of TM Forum's usage management API (TMF635, version 4), for billing systems that speak it."""
