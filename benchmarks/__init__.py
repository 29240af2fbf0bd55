"""Speed against peers and against the floor, as ratios from one run. Never a test."""
