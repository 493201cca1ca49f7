"""The internal API: regions ↔ control plane, as `chappe_kernel.wire.control` says."""
