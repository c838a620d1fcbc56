"""What a step costs: ours beside plain torch, on the machine at hand."""
