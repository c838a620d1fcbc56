"""What a run says of itself: tables, pictures, metrics."""
