"""What a campaign was worth: its scorecard, refuted favourites, intervals of proportions."""
