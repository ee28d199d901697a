"""Numbers that can be trusted: intervals, paired tests, agreement, Bradley-Terry fits. No torch."""
