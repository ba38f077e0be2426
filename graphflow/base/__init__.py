"""What every stage may use: errors, dtypes, shapes, device names and the frozen configuration."""
