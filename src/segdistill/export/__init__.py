"""From a bundle to a file that a device's runtime reads, verified in that runtime."""
