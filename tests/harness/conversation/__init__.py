"""One person talks to one hermesd on three networks at once; ``scripts/conversations`` writes down what is said."""
