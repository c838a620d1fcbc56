"""Networks in plain torch; imports neither Hydra nor Lightning."""
