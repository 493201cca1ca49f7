"""The pages of webhooks: endpoints, and how their deliveries went."""
