"""What is done to the data on purpose: splits, contaminated training sets."""
