"""What exported files cost and score, beside a device's budget."""
