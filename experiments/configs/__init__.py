"""One file for each table or figure reproduced; `default.py` holds what they share."""
