"""What happens around the steps: checkpoints, interruption, progress, pictures."""
