"""What a converted file does and costs: errors, time, memory, operators, targets."""
