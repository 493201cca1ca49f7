"""Customers of a reseller."""
