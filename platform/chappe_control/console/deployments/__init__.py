"""Deployments as the operator watches them: replicas, state and load."""
