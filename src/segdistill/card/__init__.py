"""What every exported file of a run costs and scores, beside the budgets of a device."""
