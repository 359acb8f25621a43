"""From what is on file to a scorecard, a verdict, a comparison."""
