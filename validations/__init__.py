"""What must hold: the checks on captures and predictions, what they found, and whom to tell."""
