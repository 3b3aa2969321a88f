"""From the words of a report to tokens that a network attends to."""
